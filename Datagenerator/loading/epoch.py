"""Which images stand in which batch: the thesis's epoch (listing B-3, `on_epoch_end`), as pure functions.

An order depends on (seed, epoch) alone. It is not drawn in an epoch hook, as the listing does, because Keras runs
the hooks of a Sequence while its workers already fetch from it, and because a run that was killed must find the
order of the epoch it was in.
"""
from __future__ import annotations

import functools
from typing import NamedTuple, Sequence

import numpy as np

from Dataset.seeding import ORDER, stream


class Groups(NamedTuple):
    """The groups of one epoch in the order in which they are seen.

    subjects   (G,) int64, index of the subject
    images     (G, T) int64, indices among that subject's images, all of one row different
    """

    subjects: np.ndarray
    images: np.ndarray


class Shard(NamedTuple):
    """One worker's part of every batch.

    index, count   this worker and the number of workers
    replicas       accelerators of one worker; its part of a batch divides by them
    """

    index: int = 0
    count: int = 1
    replicas: int = 1


def group_count(image_counts: Sequence[int], images: int, repeats: int) -> int:
    """G, the number of groups of `images` images in an epoch: the same in every epoch."""
    return repeats * sum(count // images for count in image_counts)


def epoch_groups(image_counts: Sequence[int], images: int, repeats: int, seed: int, epoch: int) -> Groups:
    """Draw one epoch.

    Each subject's images are shuffled and cut into groups of `images`, the remainder left out, `repeats` times over;
    then all groups are shuffled. (The listing shuffles all groups three to nine times; one uniform shuffle has the
    same distribution.) The same arguments give the same groups on every machine; the arrays are read-only.

    image_counts   one number of images per subject, each >= 0
    images         T >= 1
    repeats        5 in the listing, 1 in the released code
    seed, epoch    integers >= 0

    ValueError when a number is out of its range.
    """
    for name, value, minimum in (("images", images, 1), ("repeats", repeats, 1), ("seed", seed, 0),
                                 ("epoch", epoch, 0)):
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return _drawn(tuple(int(count) for count in image_counts), images, repeats, seed, epoch)


@functools.lru_cache(maxsize=4)     # every batch of an epoch asks for it, from several threads
def _drawn(image_counts: tuple[int, ...], images: int, repeats: int, seed: int, epoch: int) -> Groups:
    rng = stream(seed, ORDER, epoch)
    subjects, rows = [np.zeros(0, np.int64)], [np.zeros((0, images), np.int64)]
    for subject, count in enumerate(image_counts):
        whole = count // images
        for _ in range(repeats):
            rows.append(rng.permutation(count)[:whole * images].reshape(whole, images))
            subjects.append(np.full(whole, subject, np.int64))
    order = rng.permutation(sum(len(row) for row in rows))
    groups = Groups(np.concatenate(subjects)[order], np.concatenate(rows)[order])
    for array in groups:
        array.flags.writeable = False
    return groups


def batch_rows(groups: int, batch_size: int, index: int, as_published: bool = False) -> range:
    """The positions of the epoch's groups that stand in batch `index`.

    Every group stands in one batch, and the last one may be smaller. `as_published` is the listing's slip,
    `index + batch` where `index*batch_size + batch` was meant: neighbouring batches share all groups but one, and
    an epoch sees floor(S/B) + B - 1 of its S groups.
    """
    start = index if as_published else index * batch_size
    return range(start, min(start + batch_size, groups))


def batch_count(groups: int, batch_size: int, drop_last: bool = False) -> int:
    """Batches in an epoch of `groups` groups; `drop_last` (the listing) leaves an incomplete one out."""
    return groups // batch_size if drop_last else -(-groups // batch_size)


def shard_rows(rows: range, shard: Shard) -> range:
    """One worker's part of a batch: equal parts for all, because replicas add up gradients of equal weight.

    What is left over when a (last) batch does not divide by count*replicas is not seen: fewer than
    count*replicas groups of an epoch. The parts may be empty.
    """
    part = len(rows) // (shard.count * shard.replicas) * shard.replicas
    return rows[shard.index * part:(shard.index + 1) * part]
