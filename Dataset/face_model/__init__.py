"""The face model: mean, identity, expression, its ordered grid; readers of other models."""
