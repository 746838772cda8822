"""Losses: (target, prediction) -> one value a sample."""
