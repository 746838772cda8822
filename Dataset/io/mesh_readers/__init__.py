"""Mesh files as they are on disk: bounded readers of .ply, .obj and VRML 2."""
