"""An image and its maps under pix2pix's jitter, against a pixel-by-pixel twin."""
import numpy as np
import pytest

from Datagenerator.augmentation.pair_jitter import pair_jitter


def twin(image, depth, top, left, flipped, large):
    """The pixel at (row, column) of the crop, one by one: bilinear for the image, the nearest for the depth."""
    size = len(image)
    out, out_depth = np.empty_like(image), np.empty_like(depth)
    for row in range(size):
        for column in range(size):
            x = size - 1 - column if flipped else column
            position = (np.array([top + row, left + x]) + 0.5) * size / large         # first centre at 0.5
            out_depth[row, column] = depth[tuple(np.floor(position).astype(int))]
            low = np.floor(position - 0.5).astype(int)
            (y0, x0), (y1, x1) = np.clip(low, 0, size - 1), np.clip(low + 1, 0, size - 1)
            b, a = position - 0.5 - low
            out[row, column] = ((1 - b) * ((1 - a) * image[y0, x0] + a * image[y0, x1])
                                + b * ((1 - a) * image[y1, x0] + a * image[y1, x1]))
    return out, out_depth


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_twin(seed):
    rng = np.random.default_rng(100 + seed)
    image, depth = rng.random((32, 32, 3), np.float32), rng.random((32, 32, 1), np.float32)
    depth[rng.random((32, 32)) < 0.3] = np.nan
    draws = np.random.default_rng(seed)
    top, left, flipped = draws.integers(0, 5), draws.integers(0, 5), draws.random() < 0.5      # 32 -> 36
    expected = twin(image, depth, top, left, flipped, 36)
    found = pair_jitter(image, depth, rng=np.random.default_rng(seed))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def test_image_and_maps_move_together_and_values_stay():
    rows = np.repeat(np.arange(256, dtype=np.float32)[:, None], 256, 1)
    image = np.stack([rows, rows.T, rows], -1)
    depth, mask = np.where(rows < 60, np.nan, rows).astype(np.float32), rows > 100
    seen = set()
    for seed in range(8):
        moved, d, m = pair_jitter(image, depth, mask, rng=np.random.default_rng(seed))
        assert moved.shape == image.shape and d.shape == depth.shape and m.dtype == bool
        known = np.isfinite(d)
        assert np.abs(moved[..., 0] - d)[known].max() < 1       # half a pixel of either side
        np.testing.assert_array_equal(m[known], d[known] > 100)
        assert set(np.unique(d[known])) <= set(np.arange(60, 256))
        step = np.diff(moved[128, :, 1]).mean()
        assert abs(abs(step) - 256 / 286) < 0.01
        seen.add(bool(step > 0))
    assert seen == {True, False}


def test_same_state_same_bytes_and_the_input_stays():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    depth = np.random.default_rng(1).random((64, 64), np.float32)
    before = image.copy(), depth.copy()
    first, second = (pair_jitter(image, depth, rng=np.random.default_rng(3)) for _ in range(2))
    for a, b, c, d in zip(first, second, before, (image, depth)):
        assert a.tobytes() == b.tobytes() and a.dtype == c.dtype
        np.testing.assert_array_equal(c, d)
    first[1][:] = 0
    np.testing.assert_array_equal(before[1], depth)


def test_nothing_to_do():
    image = np.random.default_rng(0).random((8, 8, 3), np.float32)
    for seed in range(4):
        found, = pair_jitter(image, rng=np.random.default_rng(seed), enlarged=1.0, mirror=False)
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("shapes, enlarged, message", [
    (((8, 8, 3), (8, 9)), 1.1, r"of one size, got \(8, 8, 3\), \(8, 9\)"), (((8, 8),), 1.1, "must be"),
    (((0, 0, 3),), 1.1, "must be"), (((8, 8, 3),), 0.9, "enlarged must be at least 1"),
    (((8, 8, 3),), float("nan"), "enlarged must be at least 1")])
def test_bad_input(shapes, enlarged, message):
    with pytest.raises(ValueError, match=message):
        pair_jitter(*(np.zeros(shape, np.float32) for shape in shapes), rng=np.random.default_rng(0),
                    enlarged=enlarged)
