"""Frozen dataclasses as command-line flags."""
