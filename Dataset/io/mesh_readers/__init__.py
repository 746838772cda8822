"""Mesh files as they are on disk: bounded readers of .ply, .obj, .stl and VRML 2."""
