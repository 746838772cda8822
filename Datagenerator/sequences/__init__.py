"""Shards and folders -> batches: one file a kind of target."""
