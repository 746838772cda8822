"""A plain residual encoder (He et al. 2016): the way down of `compact`.

The names of its layers do not depend on its size, so that weights can be transferred (`--warm-start`, `--transfer
down_,block_`).
"""
from __future__ import annotations

from typing import Any, Protocol, Sequence

from keras import layers


class Convolution(Protocol):
    """A network's own convolution, with its normalisation and, unless relu is False, its ReLU."""

    def __call__(self, x: Any, filters: int, name: str, stride: int = 1, kernel: int = 3, relu: bool = True) -> Any: ...


def residual_encoder(x: Any, filters: Sequence[int], blocks: Sequence[int], convolution: Convolution) -> list[Any]:
    """(n, H, W, C) -> one tensor for each level (n, H / 2^(i + 1), W / 2^(i + 1), filters[i]), the finest first. Each
    level is a convolution of stride 2, 5x5 the first and 3x3 the others, and `blocks[i]` blocks of two."""
    tensors = []
    for level, (features, count) in enumerate(zip(filters, blocks, strict=True)):
        x = convolution(x, features, f"down_{level}", stride=2, kernel=5 if level == 0 else 3)
        for block in range(count):
            name = f"block_{level}_{block}"
            y = convolution(x, features, f"{name}_1")
            y = convolution(y, features, f"{name}_2", relu=False)
            x = layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, y]))
        tensors.append(x)
    return tensors
