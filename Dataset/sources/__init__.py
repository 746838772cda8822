"""Data sets on disk: subject folders, BU-4DFE, Texas 3D, AFLW2000-3D."""
