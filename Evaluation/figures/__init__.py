"""Figures: plots, contact sheets, splats, wireframes, overlays on video."""
