"""Diagnostics of multilevel gradient estimation."""
