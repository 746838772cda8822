"""Readers of other face models, one file per format."""
