"""Runs behind the published figures: tables, benchmarks and their results."""
