"""Dataset/rendering/texture.py: positions of the grid's points, and gaps that are filled sensibly."""
import numpy as np
import pytest

from Dataset.rendering.texture import fill, grid_uv, push_pull


def test_uv_pinned():
    assert grid_uv(4)[[0, 1, 4, 15]].tolist() == [[0.125, 0.875], [0.375, 0.875], [0.125, 0.625], [0.875, 0.125]]
    with pytest.raises(ValueError, match="at least 2 points a side, received 1"):
        grid_uv(1)


def test_the_mirrored_half_takes_the_light_of_its_surroundings():
    """Left half 1.4 times as bright; a hole in it is filled from the dark half, but bright."""
    weight, colours = np.ones((128, 128), np.float32), np.full((128, 128, 3), 100, np.float32)
    colours[:, :64] = 140
    weight[40:80, 20:50] = 0
    filled = fill(colours, weight)
    assert np.abs(filled[:, :50] - 140).max() < 4 and np.abs(filled[:, 70:] - 100).max() < 1


def test_what_neither_half_shows_is_continued_smoothly():
    yy, xx = np.mgrid[:128, :128]
    truth = np.repeat((80 + 0.5 * xx + 0.3 * yy)[..., None], 3, 2).astype(np.float32)
    weight = np.ones((128, 128), np.float32)
    weight[50:78, 50:78] = 0
    broken = np.where(weight[..., None] > 0, truth, -1000).astype(np.float32)
    filled = push_pull(broken, weight)
    assert np.abs(filled - truth).max() < 8 and np.array_equal(filled[weight == 1], truth[weight == 1])
    one = np.zeros((33, 20), np.float32)
    one[4, 7] = 1
    assert np.allclose(push_pull(np.full((33, 20, 3), 9.0, np.float32), one), 9, atol=1e-4)


def test_the_hidden_half_is_the_mirrored_one():
    """Of a symmetric texture whose right half is not seen, all comes back."""
    half = np.random.default_rng(0).uniform(40, 220, (64, 32, 3)).astype(np.float32)
    whole, weight = np.concatenate([half, half[:, ::-1]], 1), np.ones((64, 64), np.float32)
    weight[:, 34:] = 0
    np.testing.assert_allclose(fill(np.where(weight[..., None] > 0, whole, -1000).astype(np.float32), weight), whole,
                               atol=0.01)
