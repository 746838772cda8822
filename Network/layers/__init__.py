"""Layers and blocks that networks share."""

#: under which Keras registers the layers of this program
PACKAGE = "faces3d"
