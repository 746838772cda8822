"""What batches and losses are to the gradient steps of every backend."""
from __future__ import annotations

from typing import Any, Callable

#: x and y; each an array (B, ...) or a dict of arrays (B, ...)
Batch = tuple[Any, Any]
#: loss(y_true, y_pred) -> (B,) float32, one value per sample; or a dict of such, named parts that add up to the loss
Loss = Callable[[Any, Any], Any]


def samples(x: Any) -> int:
    """How many samples a batch's x or y, an array or a dict of arrays, holds."""
    return len(next(iter(x.values())) if isinstance(x, dict) else x)


def add_parts(losses: Any) -> Any:
    """(B,) from a loss's value: itself, or the sum of its parts."""
    return sum(losses.values()) if isinstance(losses, dict) else losses
