"""Datagenerator/augmentation/maps.py and occluders.crops: image and maps move together, seeds decide all."""
import cv2
import numpy as np
import pytest

from Datagenerator.augmentation import occluders
from Datagenerator.augmentation.maps import (MAPS, PHOTOS, MapAugmentConfig, MapSample, augment_maps, hide, move, paste,
                                             turn)

OFF = MapAugmentConfig.off()


def sample(size: int = 64, seed: int = 0) -> MapSample:
    """A disc of face whose colours are its uv, on a dark ground: what a pixel shows can be read off the image."""
    y, x = np.mgrid[:size, :size] + 0.5
    mask = np.hypot(x - 0.55 * size, y - 0.45 * size) < 0.3 * size
    uv = np.stack([x, size - y], -1) / size
    image = np.zeros((size, size, 3), np.uint8)
    image[mask] = np.round(np.concatenate([uv, np.full((size, size, 1), seed / 255 + 0.2)], -1) * 255)[mask]
    return MapSample(image, np.where(mask[..., None], uv, np.nan).astype(np.float16), mask, mask.astype(np.float32))


def shown(image: np.ndarray) -> np.ndarray:
    return image[..., :2] / 255


def noise(seed: int, size: int = 96) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def test_off_changes_nothing_and_the_default_moves_nothing():
    before = sample()
    after = augment_maps(before, np.random.default_rng(0), OFF, 0.5, (noise(1), noise(2)))
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)
    for seed in range(10):
        after = augment_maps(before, np.random.default_rng(seed), MAPS, 0.0, (noise(1), noise(2)))
        np.testing.assert_array_equal(after.uv, before.uv)
        np.testing.assert_array_equal(after.mask, before.mask)
        assert (after.visible_mask <= before.visible_mask).all() and after.image.dtype == np.uint8


def test_same_seed_same_bytes_and_the_input_stays():
    config = MapAugmentConfig(quarters=1.0, scale=(0.8, 1.2), shift=0.1, rotation=20, crops=1.0, hand=1.0, bar=1.0)
    before, kept = sample(), sample()
    first, second = (augment_maps(before, np.random.default_rng(3), config, 0.2, (noise(1), noise(2))) for _ in "ab")
    for a, b, c, d in zip(first, second, before, kept):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, d)
    other = augment_maps(before, np.random.default_rng(4), config, 0.2, (noise(1), noise(2)))
    assert np.abs(other.image.astype(int) - first.image).max() > 20


def test_quarter_turns_are_exact_and_all_four():
    before, seen = sample(), set()
    config = MapAugmentConfig.off(quarters=1.0)
    for seed in range(20):
        after = turn(before, np.random.default_rng(seed), config)
        times = [k for k in range(4) if np.array_equal(after.image, np.rot90(before.image, k))]
        assert len(times) == 1
        for a, b in zip(after[:4], before):
            np.testing.assert_array_equal(a, np.rot90(b, times[0]))
        np.testing.assert_allclose(moved(after), centres(after), atol=0.02)     # float16
        seen.update(times)
    assert seen == {0, 1, 2, 3}


def centres(after: MapSample) -> np.ndarray:
    """x, y (N, 2) of the face's pixels."""
    return np.argwhere(after.mask)[:, ::-1] + 0.5


def moved(after: MapSample) -> np.ndarray:
    """Where its motion puts what the face's pixels show, which in a `sample` is where they were."""
    was = after.uv[after.mask][:, :2].astype(float) * len(after.image) * [1, -1] + [0, len(after.image)]
    return was @ after.motion[:, :2].T + after.motion[:, 2]


def test_motion_says_where_a_pixel_went():
    config = MapAugmentConfig.off(scale=(0.8, 1.3), shift=0.1, rotation=30, quarters=1.0)
    for seed in range(12):
        after = augment_maps(sample(), np.random.default_rng(seed), config)
        away = moved(after) - centres(after)
        assert np.abs(away).max() < 1.0 and np.abs(away.mean(0)).max() < 0.1    # half a pixel, 1.3 times, slanted
    assert MapSample(*sample()[:4]).motion.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_more_channels_move_with_uv():
    before = sample()
    before = before._replace(uv=np.concatenate([before.uv, 2 * before.uv[..., :1]], -1))
    config = MapAugmentConfig.off(scale=(0.8, 1.3), shift=0.1, rotation=30, quarters=1.0)
    after = augment_maps(before, np.random.default_rng(2), config)
    np.testing.assert_allclose(after.uv[after.mask][:, 2], 2 * after.uv[after.mask][:, 0], atol=1e-3)
    two = augment_maps(sample(), np.random.default_rng(2), config)
    np.testing.assert_array_equal(after.uv[after.mask][:, :2], two.uv[two.mask])


def test_contrast_is_one_of_the_steps():
    """As the outlook asks (4.5.1): about mid-grey, of the image alone."""
    before = sample()
    after = augment_maps(before, np.random.default_rng(0), MapAugmentConfig.off(contrast=(0.5, 0.5)))
    np.testing.assert_allclose(after.image, 127.5 + 0.5 * (before.image.astype(float) - 127.5), atol=1)
    for a, b in zip(after[1:], before[1:]):
        np.testing.assert_array_equal(a, b)
    assert MAPS.contrast == (1, 1) and PHOTOS["contrast"] == (0.7, 1.25)


def test_the_defaults_are_the_papers_steps():
    """3.6: shuffle of all six orders, exposure, gamma, noise that ends, occluders; nothing moves, nothing else acts."""
    others = {"blob", "hand", "bar", "grey", "blur", "motion", "coarse", "jpeg", "gain_sd", "quarters", "shift"}
    assert all(getattr(MAPS, name) == 0 for name in others) and MAPS.scale == MAPS.contrast == (1, 1)
    assert MAPS.crops == 1 and sum(MAPS.crops_cover) == 1 and MAPS.max_covered == 1
    orders, before = set(), sample()
    still = MapAugmentConfig.off(shuffle=MAPS.shuffle)
    colour = np.zeros((64, 64, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    for seed in range(300):
        orders.add(tuple(augment_maps(before._replace(image=colour), np.random.default_rng(seed), still).image[0, 0]))
    assert len(orders) == 6


def test_light_is_floating_point_until_the_end():
    """Too bright stays too bright under the noise: clipped before it, half of the pixels would be darker."""
    config = MapAugmentConfig.off(exposure=(4.0, 4.0), noise=(10.0, 10.0), noise_end=(10.0, 10.0))
    white = sample()._replace(image=np.full((64, 64, 3), 240, np.uint8))
    assert (augment_maps(white, np.random.default_rng(0), config).image == 255).all()
    twice = 2 ** 2.2                                        # of the light doubles the value
    config = MapAugmentConfig.off(exposure=(np.log2(twice),) * 2)
    grey = sample()._replace(image=np.full((64, 64, 3), 50, np.uint8))
    assert (augment_maps(grey, np.random.default_rng(0), config).image == 100).all()


@pytest.mark.parametrize("change", [dict(scale=(0.7, 0.7)), dict(scale=(1.3, 1.3)), dict(shift=0.15),
                                    dict(rotation=40.0), dict(scale=(0.8, 1.2), shift=0.1, rotation=25.0)])
def test_maps_move_with_their_pixels(change):
    config = MapAugmentConfig.off(**change)
    bias = []
    for seed in range(24):
        after = move(sample(), np.random.default_rng(seed), config)
        inner = cv2.erode(after.mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT,
                          borderValue=0) > 0
        error = shown(after.image)[inner] - after.uv[inner]
        # nearest: at most half a pixel of 1/64, in either direction; eight bits
        assert inner.sum() > 300 and np.isfinite(after.uv[after.mask]).all() and np.abs(error).max() < 0.5 / 64 + 0.003
        bias.append(error.mean(0))
        assert not after.mask[0].any() or "shift" in change or change.get("scale", (0,))[0] > 1
        np.testing.assert_array_equal(after.visible_mask, after.mask)
    assert np.abs(np.mean(bias, 0)).max() < 0.002


def test_hidden_is_what_was_laid_over():
    """Where the image changed much the face counts as hidden; where it did not change it is seen."""
    config, before = MapAugmentConfig.off(crops=1.0), sample()
    covered = 0
    for seed in range(12):
        after = hide(before, np.random.default_rng(seed), config, (noise(seed), noise(seed + 50)))
        change = np.abs(after.image.astype(int) - before.image).max(-1)
        np.testing.assert_array_equal(after.mask, before.mask)
        assert (after.visible_mask[~before.mask] == 0).all() and (after.visible_mask >= 0).all()
        assert (change[after.mask & (after.visible_mask == 1)] == 0).all()
        assert (after.visible_mask[after.mask & (change > 60)] < 1).all()
        covered += (after.visible_mask < before.visible_mask).any()
    assert covered >= 10
    untouched = hide(before, np.random.default_rng(0), config, None)
    np.testing.assert_array_equal(untouched.image, before.image)        # no other images, no crops


def test_too_much_is_left_out():
    config = MapAugmentConfig.off(crops=1.0, hand=1.0, bar=1.0, max_covered=0.0)
    after = hide(sample(), np.random.default_rng(1), config, (noise(1), noise(2)))
    np.testing.assert_array_equal(after.image, sample().image)
    assert (after.visible_mask == sample().visible_mask).all()


def test_crops_keep_their_fraction_and_their_colours():
    grey, red = noise(3), np.zeros((50, 80, 3), np.uint8) + np.array([10, 20, 200], np.uint8)
    fractions = []
    for seed in range(60):
        layer = occluders.crops((64, 64), (0.2, 0.4), np.random.default_rng(seed), grey, red)
        if layer is None:
            continue
        assert layer.alpha.dtype == np.float32 and 0 <= layer.alpha.min() <= layer.alpha.max() <= 1
        assert (layer.colour == (10, 20, 200)).all() and layer.colour.shape == (64, 64, 3)
        fractions.append((layer.alpha > 0.5).mean())
    assert len(fractions) > 50 and 0.2 <= min(fractions) < 0.25 and 0.35 < max(fractions) <= 0.4
    flat = np.full((50, 50, 3), 128, np.uint8)          # no level parts it: given up, not forever
    assert occluders.crops((64, 64), (0.2, 0.4), np.random.default_rng(0), flat, red) is None


def test_a_second_face_brings_its_own_maps():
    first, second = sample(seed=0), sample(seed=100)
    for seed in range(8):
        both = paste(first, second, np.random.default_rng(seed))
        own = both.mask & ((both.uv != first.uv).any(-1) | ~first.mask)     # of the second face
        assert 100 < own.sum() < first.mask.sum() / 2
        inner = cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        error = np.abs(shown(both.image)[inner] - both.uv[inner]).max(-1)   # of the second, averaged down
        assert np.median(error) < 0.03 and (both.visible_mask[own] == 1).all()
        old = both.mask & ~own
        np.testing.assert_array_equal(both.image[old], first.image[old])
        assert not (both.mask & cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~own).any()
        assert (both.visible_mask[~both.mask] == 0).all()
    np.testing.assert_array_equal(first.image, sample().image)


@pytest.mark.parametrize("change, message", [
    ({"image": np.zeros((64, 60, 3), np.uint8)}, r"image: must be \(S, S, 3\) uint8"),
    ({"uv": np.zeros((32, 32, 2), np.float16)}, "maps: must be of the image's size"),
    ({"visible_mask": np.zeros((64, 64))}, "mask must be bool and visible_mask float32, got bool and float64")])
def test_bad_samples(change, message):
    with pytest.raises(ValueError, match=message):
        augment_maps(sample()._replace(**change), np.random.default_rng(0))


def test_bad_settings():
    with pytest.raises(ValueError, match="progress: must be within 0 to 1, got 2"):
        augment_maps(sample(), np.random.default_rng(0), progress=2)
    with pytest.raises(ValueError, match="quarters: must be a number within 0 to 1, got 3"):
        MapAugmentConfig(quarters=3)
    with pytest.raises(ValueError, match="crops_cover: must be low <= high within 0 to 1"):
        MapAugmentConfig(crops_cover=(0.5, 0.1))
