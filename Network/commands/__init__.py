"""Flags of the scripts, and what they write."""
