"""Closed-form read-out of `compact`: from the keypoints of photos to a face, by a linear-Gaussian model. numpy only."""
