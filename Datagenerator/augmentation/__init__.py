"""Pure functions (sample, generator) -> sample: a picture and its targets change together."""
