"""Runs behind the published figures: benchmarks, table configurations and their results."""
