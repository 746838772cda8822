"""Synthetic subjects: scene, skin, hair and clothes, glasses, background, rendered images."""
