"""Random streams of a seed: one for each purpose, so that no two share their numbers."""
from __future__ import annotations

import numpy as np

#: The largest seed. NumPy splits the integers of a seed list into words of 32 bits: [2**32 + 5, n] is the list [5, 1,
#: n], so a larger seed would share the streams of a small one.
MAX_SEED = 2**32 - 1
#: The purpose of a stream, the first number of its key. The streams of subjects are those of the lists
#: [seed, number, 0] and [seed, number, 1, image] (`Dataset.synthesis.renders`), which differ from all keys below.
BATCHES, ORDER = 1, 2


def stream(seed: int, *key: int) -> np.random.Generator:
    """The generator of (seed, key): the same numbers for the same integers, other ones for any other key.

    NumPy pads a plain list with zeros, so that (seed, epoch), (seed, epoch, 0) and the list of the first subject would
    be one stream; spawn keys give different ones. ValueError for a seed beyond 0 to MAX_SEED or a negative key.
    """
    if not 0 <= seed <= MAX_SEED or any(part < 0 for part in key):
        raise ValueError(f"a seed must be within 0 to {MAX_SEED} and its key not negative, got {seed} and {key}")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
