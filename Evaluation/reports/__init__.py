"""Metrics over subjects as tables."""
