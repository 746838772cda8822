"""Dataset/texture.py: the photo comes back through the grid's uv, and what it does not show is filled sensibly."""
import cv2
import numpy as np
import pytest

from Dataset.texture import _continue, fill, grid_texture, grid_uv

N = 32


def soft(size: int = 300, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(40, 220, (7, 7, 3), np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def places(low: float = 60, high: float = 240) -> np.ndarray:
    """(N, N, 2): the grid evenly over a square of the photo, bent a little."""
    x, y = np.meshgrid(np.linspace(low, high, N), np.linspace(low, high, N))
    return np.stack([x + 6 * np.sin(y / 30), y + 6 * np.sin(x / 30)], 2)


def lookup(picture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Slow twin of a bilinear reader: (K, 2) pixel coordinates whose first pixel's centre is (0.5, 0.5) -> (K, 3)."""
    colours = []
    for x, y in np.asarray(at, float) - 0.5:
        x, y = np.clip(x, 0, picture.shape[1] - 1.001), np.clip(y, 0, picture.shape[0] - 1.001)
        i, j, down, right = int(y), int(x), y - int(y), x - int(x)
        cell = picture[i:i + 2, j:j + 2].astype(float)
        column = cell[0] * (1 - down) + cell[1] * down
        colours.append(column[0] * (1 - right) + column[1] * right)
    return np.array(colours)


def at_uv(texture: np.ndarray) -> np.ndarray:
    """(N, N, 3): the texture's colours at the grid's uv, as a renderer reads them (v up)."""
    uv = grid_uv(N)
    height, width = texture.shape[:2]
    return lookup(texture, np.stack([uv[:, 0] * width, (1 - uv[:, 1]) * height], 1)).reshape(N, N, 3)


def test_uv_pinned():
    assert grid_uv(4)[[0, 1, 4, 15]].tolist() == [[0.125, 0.875], [0.375, 0.875], [0.125, 0.625], [0.875, 0.125]]
    with pytest.raises(ValueError, match="at least 2 points a side, received 1"):
        grid_uv(1)


def test_a_texture_of_the_grids_size_holds_one_colour_a_point():
    photo, where = soft(), places()
    texture = grid_texture(photo, where, size=N)
    alone = cv2.resize(photo, (54, 54), interpolation=cv2.INTER_AREA)       # 5.6 photo pixels a texel: averaged first
    assert np.abs(texture - lookup(alone, where.reshape(-1, 2) * 54 / 300).reshape(N, N, 3)).max() < 3


@pytest.mark.parametrize("size", [128, 200, 512])
def test_a_renderer_finds_the_photos_colours_at_the_grids_points(size):
    photo, where = soft(), places()
    expected = lookup(photo, where.reshape(-1, 2)).reshape(N, N, 3)
    assert np.abs(at_uv(grid_texture(photo, where, size=size)) - expected).max() < 4


def test_a_fine_photo_is_averaged_not_sampled():
    """Noise of sd 40 in a photo with 9 x 9 pixels a texel comes out with sd of about 40 / 9."""
    noisy = np.random.default_rng(0).normal(128, 40, (600, 600, 3)).clip(0, 255).astype(np.uint8)
    texture = grid_texture(noisy, places(20, 580), size=64)
    assert 2 < texture.astype(float).std() < 8


def test_hidden_half_is_the_mirrored_one():
    """A photo symmetric about the grid's middle: with its right half hidden the texture is what it was."""
    photo = soft()
    photo[:, 150:] = photo[:, :150][:, ::-1]
    x, y = np.meshgrid(np.linspace(60, 240, N), np.linspace(60, 240, N))
    where, left = np.stack([x, y], 2), np.zeros((N, N), bool)
    left[:, :N // 2 + 3] = True
    whole, half = grid_texture(photo, where, size=256), grid_texture(photo, where, left, size=256)
    assert np.abs(whole.astype(int) - half).max() <= 3
    hidden = photo.copy()
    hidden[:, 175:] = (0, 255, 0)           # what stands in front of the hidden half does not matter
    assert np.array_equal(grid_texture(hidden, where, left, size=256), half)


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
    filled = _continue(broken, weight)
    assert np.abs(filled - truth).max() < 8 and np.array_equal(filled[weight == 1], truth[weight == 1])
    one = np.zeros((33, 20), np.float32)
    one[4, 7] = 1
    assert np.allclose(_continue(np.full((33, 20, 3), 9.0, np.float32), one), 9, atol=1e-4)


def test_nan_and_outside_places_count_as_not_visible():
    photo, where = soft(), places()
    broken, rim = where.copy(), np.ones((N, N), bool)
    broken[:, -4:] = np.nan
    broken[:3] += 1000
    rim[:, -4:] = rim[:3] = False
    expected = grid_texture(photo, where, rim, size=128)
    got = grid_texture(photo, broken, size=128)
    assert np.abs(expected.astype(int) - got).max() <= 6     # the median spacing, and so the averaging, may differ
    assert grid_texture(photo, np.where(np.eye(N, dtype=bool)[..., None], where, np.nan), size=64).shape == (64, 64, 3)


def test_bad_input_is_named():
    photo, where = soft(), places()
    for arguments, rule in (((photo[..., 0], where), r"photo: must be \(H, W, 3\) uint8, got \(300, 300\)"),
                            ((photo.astype(float), where), "photo: .*float64"),
                            ((photo, where[:5]), r"places: must be \(n, n, 2\), got \(5, 32, 2\)"),
                            ((photo, where, np.ones(4, bool)), r"visible: must be \(32, 32\), got \(4,\)"),
                            ((photo, where, np.zeros((N, N), bool)), "no point of the grid is visible"),
                            ((photo, where * np.nan), "no point of the grid is visible"),
                            ((photo, where, None, 1), "size must be 2 to 8192, received 1")):
        with pytest.raises(ValueError, match=rule):
            grid_texture(*arguments)
