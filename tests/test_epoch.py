"""Which images stand in which batch: order and coverage of the thesis's epoch, the listing's slip, shards."""
import collections

import numpy as np
import pytest

from Datagenerator.loading.epoch import Shard, batch_count, batch_rows, epoch_groups, group_count, shard_rows

COUNTS = (7, 12, 3, 10)


@pytest.mark.parametrize("images, repeats", [(3, 1), (3, 5), (4, 2), (1, 1), (8, 5)])
def test_epoch_is_the_listings(images, repeats):
    groups = epoch_groups(COUNTS, images, repeats, seed=0, epoch=0)
    wanted = {subject: repeats * (count // images) for subject, count in enumerate(COUNTS) if count >= images}
    assert collections.Counter(groups.subjects.tolist()) == wanted
    assert len(groups.subjects) == group_count(COUNTS, images, repeats) == sum(wanted.values())
    for subject, row in zip(*groups):
        assert len(set(row.tolist())) == images and 0 <= row.min() and row.max() < COUNTS[subject]
    for subject, count in enumerate(COUNTS):     # cut from shuffles: no image is seen more than once in a repeat
        seen = np.bincount(groups.images[groups.subjects == subject].ravel(), minlength=count)
        assert seen.max(initial=0) <= repeats and seen.sum() == repeats * (count // images) * images


def test_without_remainder_every_image_is_seen_repeats_times():
    groups = epoch_groups((12, 6), 3, 5, seed=0, epoch=0)
    for subject, count in enumerate((12, 6)):
        assert np.bincount(groups.images[groups.subjects == subject].ravel()).tolist() == [5] * count


def test_order_depends_on_seed_and_epoch_alone():
    first = epoch_groups(COUNTS, 3, 2, seed=0, epoch=0)
    np.random.seed(1)
    again = epoch_groups(list(COUNTS), 3, 2, seed=0, epoch=0)
    assert all((a == b).all() for a, b in zip(first, again))
    for seed, epoch in ((0, 1), (1, 0), (1, 1)):
        assert (epoch_groups(COUNTS, 3, 2, seed, epoch).images != first.images).any()
    assert not first.images.flags.writeable
    # pinned: another NumPy, machine or process draws the same epoch
    assert epoch_groups((4, 5), 2, 1, seed=0, epoch=0).subjects.tolist() == [1, 1, 0, 0]
    assert epoch_groups((4, 5), 2, 1, seed=0, epoch=0).images.tolist() == [[4, 0], [2, 3], [3, 1], [2, 0]]


def test_shuffle_is_uniform_over_groups():
    """The first group of an epoch belongs to each subject as often as that subject has groups (chi-square, 3 bins)."""
    counts = np.bincount([epoch_groups((3, 6, 9), 3, 1, 0, epoch).subjects[0] for epoch in range(600)])
    expected = 600 * np.array([1, 2, 3]) / 6
    assert ((counts - expected)**2 / expected).sum() < 13.8        # p = 0.001


@pytest.mark.parametrize("name, value", [("images", 0), ("repeats", 0), ("seed", -1), ("epoch", -1)])
def test_epoch_groups_refuses(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be at least {0 if value < 0 else 1}, got {value}$"):
        epoch_groups(COUNTS, **{**dict(images=3, repeats=1, seed=0, epoch=0), name: value})


@pytest.mark.parametrize("groups, size", [(10, 4), (12, 4), (3, 5), (23, 1), (7, 7)])
def test_batches_hold_every_group_once(groups, size):
    count = batch_count(groups, size)
    assert [row for i in range(count) for row in batch_rows(groups, size, i)] == list(range(groups))
    assert batch_count(groups, size, drop_last=True) == groups // size


@pytest.mark.parametrize("groups, size", [(10, 4), (12, 4), (23, 5), (175, 5)])
def test_as_published_sees_a_fifth(groups, size):
    count = batch_count(groups, size, drop_last=True)
    batches = [list(batch_rows(groups, size, i, as_published=True)) for i in range(count)]
    assert batches == [[index + batch for batch in range(size)] for index in range(groups // size)]
    assert len(set(sum(batches, []))) == groups // size + size - 1


@pytest.mark.parametrize("count, replicas", [(1, 1), (2, 1), (4, 1), (2, 2), (1, 3)])
def test_shards_are_equal_and_disjoint(count, replicas):
    for rows in (range(8, 16), range(8, 15), range(8, 9), range(8, 8)):
        parts = [list(shard_rows(rows, Shard(i, count, replicas))) for i in range(count)]
        whole = len(rows) // (count * replicas) * count * replicas
        assert sum(parts, []) == list(rows)[:whole]
        assert len({len(part) for part in parts}) == 1 and len(parts[0]) % replicas == 0
