"""Measurements against other libraries; each script writes JSON with its provenance."""
