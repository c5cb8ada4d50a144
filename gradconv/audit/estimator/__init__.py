"""Audits of multilevel gradient loops: a user's training step as a black box."""
