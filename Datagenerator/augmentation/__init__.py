"""Pure functions (sample, generator) -> sample: an image and its targets change together."""
