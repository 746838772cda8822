"""Builds the built-in face (CC0) from its sources."""
