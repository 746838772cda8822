"""Ray casting, rasterising, shading, and textures taken from photos."""
