"""Presets, settings, gradient steps, the loop, checkpoints."""
