"""Encode a face as what a network predicts, and decode it back to points."""
