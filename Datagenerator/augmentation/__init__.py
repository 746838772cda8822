"""Pure functions (sample, generator) -> sample: a image and its targets change together."""
