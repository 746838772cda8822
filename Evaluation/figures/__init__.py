"""Images: plots, splats, wireframes, overlays, the images of an epoch."""
