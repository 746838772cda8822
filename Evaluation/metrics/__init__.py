"""Metrics: arrays in, one number per sample out. No tables, no images."""
