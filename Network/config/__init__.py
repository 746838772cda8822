"""Frozen dataclasses as command-line flags, and what they may ask for."""
