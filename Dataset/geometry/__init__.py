"""Meshes and grids in space: what several rooms need, written once."""
