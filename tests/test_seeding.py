"""Dataset/seeding.py: no two purposes share their random numbers."""
import numpy as np
import pytest

from Dataset.seeding import BATCHES, MAX_SEED, ORDER, stream

PINNED = [2513939324447909606, 2914044604934964585]


def first(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))


def test_pinned():
    """A batch of a training depends on these: a resumed run must go on with the same numbers."""
    assert [first(stream(7, BATCHES, 2, 3)), first(stream(7, ORDER, 2))] == PINNED


def test_streams_differ_where_lists_do_not():
    """numpy pads a list with zeros: batch (seed, epoch, 0), epoch (seed, epoch) and subject `epoch` were one stream."""
    lists = [[5, 3], [5, 3, 0], [5, 3, 0, 0]]
    assert len({first(np.random.default_rng(key)) for key in lists}) == 1
    streams = [stream(5, BATCHES, 3, 0), stream(5, BATCHES, 3), stream(5, ORDER, 3), stream(5, BATCHES, 0, 3),
               stream(5, BATCHES, 3, 0, 0), stream(6, BATCHES, 3, 0), stream(5), *map(np.random.default_rng, lists[:1])]
    assert len({first(rng) for rng in streams}) == len(streams)


def test_a_large_seed_is_refused():
    """As an entry of a list, 2**32 + 5 is 5 and 1."""
    assert first(np.random.default_rng([2**32 + 5, 9])) == first(np.random.default_rng([5, 1, 9]))
    stream(MAX_SEED)
    for seed, key in ((2**32, ()), (-1, ()), (0, (1, -1))):
        with pytest.raises(ValueError, match="a seed must be within 0 to 4294967295 and its key not negative"):
            stream(seed, *key)
