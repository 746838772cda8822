"""Size, cost and feature maps of a network."""
