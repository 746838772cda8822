"""Datagenerator/augmentation/augment.py, occluders.py: points stay on their pixels, covered ones are known; seeds."""
import dataclasses

import cv2
import numpy as np
import pytest

from Datagenerator.augmentation import occluders
from Datagenerator.augmentation.augment import (DEFAULT, AugmentConfig, Sample, add_noise, augment, blur, coarsen,
                                                colours, jitter, jpeg, light, noise_range, occlude)

OFF = AugmentConfig.off()
KEYPOINT_SIDE = np.array([[40.5, 40.5], [88.5, 44.5], [64.5, 64.5], [46.5, 90.5], [82.5, 86.5]], np.float32)


def soft_image(size: int = 128, seed: int = 0) -> np.ndarray:
    """Soft random colours, away from 0 and 255."""
    small = np.random.default_rng(seed).integers(60, 200, (9, 9, 3), np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)


def sample(size: int = 128, seed: int = 0) -> Sample:
    points = np.random.default_rng(seed + 1).uniform(0, size, (68, 2)).astype(np.float32)
    return Sample(soft_image(size, seed), points, np.ones(68, bool))


def dots(keypoints: np.ndarray = KEYPOINT_SIDE) -> Sample:
    """Gaussian dots on black, sd 2 pixels, at `keypoints` in the convention of docs/conventions.md."""
    centres = np.arange(128) + 0.5
    rows = np.exp(-(centres[:, None] - keypoints[:, 1]) ** 2 / 8)
    columns = np.exp(-(centres[:, None] - keypoints[:, 0]) ** 2 / 8)
    image = np.round(255 * np.einsum("yk,xk->yx", rows, columns)).clip(0, 255).astype(np.uint8)
    return Sample(np.repeat(image[..., None], 3, 2), keypoints, np.ones(len(keypoints), bool))


def found(image: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Centre of mass of the light within 8 pixels of each point."""
    y, x = np.mgrid[:128, :128] + 0.5
    centres = []
    for point in near:
        weight = image[..., 0] * ((x - point[0]) ** 2 + (y - point[1]) ** 2 < 64)
        centres.append([np.sum(x * weight), np.sum(y * weight)] / np.sum(weight))
    return np.array(centres)


def test_the_finder_finds_dots():
    assert np.abs(found(dots().image, KEYPOINT_SIDE) - KEYPOINT_SIDE).max() < 0.01


@pytest.mark.parametrize("change", [dict(scale=(0.8, 0.8)), dict(scale=(1.25, 1.25)), dict(shift=0.1),
                                    dict(rotation=30.0), dict(scale=(0.85, 1.15), shift=0.08, rotation=20.0)])
def test_points_move_with_their_pixels(change):
    config = AugmentConfig.off(**change)
    for seed in range(8):
        moved = jitter(dots(), np.random.default_rng(seed), config)
        assert moved.visible.all() and np.abs(moved.points - KEYPOINT_SIDE).max() > 0.2
        assert np.abs(found(moved.image, moved.points) - moved.points).max() < 0.08


def test_scale_is_about_the_centre_in_pixel_edges():
    """Twice the size about (64, 64): the pixel whose centre is (64.5, 64.5) comes to (65, 65)."""
    moved = jitter(dots(), np.random.default_rng(0), AugmentConfig.off(scale=(2, 2)))
    expected = np.array([[17, 17], [113, 25], [65, 65], [29, 117], [101, 109]], np.float32)
    assert np.allclose(moved.points, expected, atol=1e-4)


def test_jitter_keeps_its_ranges():
    config, corner = AugmentConfig.off(scale=(0.9, 1.2), shift=0.05, rotation=10), np.array([[64, 64], [100, 64.0]])
    moves = []
    for seed in range(300):
        before = Sample(soft_image(), corner.astype(np.float32), np.ones(2, bool))
        a, b = jitter(before, np.random.default_rng(seed), config).points
        moves.append([np.hypot(*(b - a)) / 36, np.degrees(np.arctan2(*(b - a)[::-1])), *(a - 64) / 128])
    moves = np.array(moves)
    low, high = np.array([0.9, -10, -0.05, -0.05]), np.array([1.2, 10, 0.05, 0.05])
    assert (moves >= low - 1e-4).all() and (moves <= high + 1e-4).all()
    assert (moves.min(0) < low + 0.03 * (high - low)).all() and (moves.max(0) > high - 0.03 * (high - low)).all()


def test_points_that_leave_the_image_are_invisible():
    before = Sample(soft_image(), np.array([[2, 2], [64, 64], [126, 64]], np.float32), np.array([True, True, False]))
    after = jitter(before, np.random.default_rng(0), AugmentConfig.off(scale=(1.5, 1.5)))
    assert after.visible.tolist() == [False, True, False]
    assert np.allclose(after.points, [[-29, -29], [64, 64], [157, 64]], atol=1e-4)


def test_visible_is_false_exactly_under_the_layer(monkeypatch):
    alpha = np.zeros((128, 128), np.float32)
    alpha[32:64, 16:80] = 1
    monkeypatch.setattr(occluders, "bar", lambda shape, rng: occluders.Layer(np.full((*shape, 3), 7, np.uint8), alpha))
    keypoints = np.array([[16, 32], [79.9, 63.9], [15.9, 40], [40, 64], [-3, 5], [200, 40]], np.float32)
    before = Sample(soft_image(), keypoints, np.ones(6, bool))
    after = occlude(before, np.random.default_rng(0), AugmentConfig.off(bar=1.0))
    assert after.visible.tolist() == [False, False, True, True, True, True]
    assert (after.image[32:64, 16:80] == 7).all() and before.visible.all()
    untouched = alpha == 0
    assert np.abs(after.image[untouched].astype(int) - before.image[untouched]).max() <= 1


@pytest.mark.parametrize("kind", ["blob", "hand", "bar"])
def test_covered_points_are_those_whose_pixels_changed(kind):
    """A slow look at the image: where a point's pixel is as before it is visible, where it is far from it is not."""
    hidden = 0
    for seed in range(40):
        before = sample(seed=seed)
        before = before._replace(image=np.full_like(before.image, 128))
        rng = np.random.default_rng(seed)
        after = occlude(before, rng, AugmentConfig.off(**{kind: 1.0}))
        for (x, y), visible in zip(before.points, after.visible):
            change = np.abs(after.image[int(y), int(x)].astype(int) - 128).max()
            if change == 0:
                hidden += not visible       # a fill that happens to be the image's own grey
            elif visible:
                assert change <= 66         # alpha of at most a half
        assert np.mean(after.visible) > 0.4
    assert hidden <= 40 * 68 * 0.01


def test_a_blob_covers_the_fraction_that_was_asked_for():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        fraction = rng.uniform(0.05, 0.4)
        layer = occluders.blob((128, 128), fraction, rng, soft_image(seed=9))
        assert np.mean(layer.alpha > 0.5) == pytest.approx(fraction, abs=0.02)
        assert layer.alpha.min() == 0 and layer.alpha.max() == 1 and layer.alpha.dtype == np.float32
    assert not occluders.blob((128, 128), 0.0, np.random.default_rng(0)).alpha.any()
    assert (occluders.blob((128, 128), 1.0, np.random.default_rng(0)).alpha > 0.4).all()


def test_shape_and_filling_of_blobs_are_independent_crops():
    """Over many blobs the fill's brightness says nothing about the mask (Ronkainen's two independent crops)."""
    pairs = []
    for seed in range(200):
        layer = occluders.blob((32, 32), 0.3, np.random.default_rng(seed), soft_image(seed=9))
        bright = layer.colour.mean(2)
        if bright.std() > 1:
            pairs.append(np.corrcoef(bright.ravel(), layer.alpha.ravel())[0, 1])
    assert len(pairs) > 80 and abs(np.mean(pairs)) < 0.1


def test_hands_are_skin_and_of_hand_size():
    fractions = []
    for seed in range(60):
        layer = occluders.hand((128, 128), np.random.default_rng(seed))
        hidden = layer.alpha > 0.5
        blue, green, red = layer.colour[hidden].astype(float).mean(0)
        assert red > green > blue
        fractions.append(hidden.mean())
        assert cv2.connectedComponents(hidden.astype(np.uint8))[0] - 1 <= 2     # one hand, at times a cut-off finger
    assert 0.01 < np.quantile(fractions, 0.1) and np.max(fractions) < 0.4


def test_no_more_than_the_limit_is_covered():
    config = AugmentConfig.off(blob=1.0, blob_cover=(0.3, 0.35), hand=1.0, bar=1.0, max_covered=0.37)
    grid = (np.mgrid[:128, :128].reshape(2, -1).T + 0.5).astype(np.float32)
    fractions = []
    for seed in range(40):
        before = Sample(soft_image(), grid, np.ones(len(grid), bool))
        fractions.append(1 - occlude(before, np.random.default_rng(seed), config).visible.mean())
    assert max(fractions) <= 0.37 and min(fractions) > 0.27
    none = occlude(before, np.random.default_rng(0), dataclasses.replace(config, max_covered=0.0))
    assert none.visible.all() and none.image is before.image


def test_light_with_pinned_values():
    image = np.array([[[0, 64, 128], [255, 200, 32]]], np.uint8)
    rng = np.random.default_rng(0)
    assert (light(image, rng, OFF) == image).all()
    assert light(image, rng, AugmentConfig.off(exposure=(1, 1))).tolist() == [[[0, 88, 175], [255, 255, 44]]]
    assert light(image, rng, AugmentConfig.off(gamma=(2, 2))).tolist() == [[[0, 16, 64], [255, 157, 4]]]
    assert light(image, rng, AugmentConfig.off(contrast=(0.5, 0.5))).tolist() == [[[64, 96, 128], [191, 164, 80]]]


def test_gain_has_the_standard_deviation_of_the_config():
    grey, config = np.full((1, 1, 3), 128, np.uint8), AugmentConfig.off(gain_sd=0.04)
    rng = np.random.default_rng(0)
    gains = np.array([light(grey, rng, config)[0, 0] / 128 for _ in range(2000)])
    assert gains.mean() == pytest.approx(1, abs=0.003) and gains.std(0) == pytest.approx([0.04] * 3, abs=0.002)
    assert abs(np.corrcoef(gains.T)[0, 1]) < 0.06


def test_colours_are_another_order_or_grey():
    image, seen = soft_image(8), set()
    for seed in range(60):
        changed = colours(image, np.random.default_rng(seed), AugmentConfig.off(shuffle=1.0))
        order = tuple(int(np.argmin([np.abs(changed[..., c].astype(int) - image[..., d]).sum() for d in range(3)]))
                      for c in range(3))
        assert (changed == image[..., list(order)]).all()
        seen.add(order)
    assert seen == {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    grey = colours(image, np.random.default_rng(0), AugmentConfig.off(grey=1.0))
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all() and np.ptp(grey) > 20


@pytest.mark.parametrize("step, change", [
    (blur, dict(blur=1.0, blur_sigma=(1.2, 1.2))), (blur, dict(motion=1.0, motion_length=(6, 6))),
    (coarsen, dict(coarse=1.0, coarse_factor=(0.4, 0.4)))])
def test_soft_steps_remove_detail_and_move_nothing(step, change):
    fine = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    soft = step(fine, np.random.default_rng(1), AugmentConfig.off(**change))
    assert soft.shape == fine.shape and soft.std() < 0.6 * fine.std()
    assert soft.mean() == pytest.approx(fine.mean(), abs=1.5)
    after = step(dots().image, np.random.default_rng(1), AugmentConfig.off(**change))
    assert np.abs(found(after, KEYPOINT_SIDE) - KEYPOINT_SIDE).max() < 0.1


@pytest.mark.parametrize("size, sigma", [(128, 1.0), (128, 2.5), (256, 1.2)])
def test_gaussian_blur_has_the_sigma_of_the_config(size, sigma):
    """The slope of a blurred edge is the Gaussian itself; `sigma` is its standard deviation, in px of a side of 128."""
    edge = np.zeros((size, size, 3), np.uint8)
    edge[:, size // 2:] = 240
    config = AugmentConfig.off(blur=1.0, blur_sigma=(sigma, sigma))
    slope = np.diff(blur(edge, np.random.default_rng(0), config)[size // 2, :, 0].astype(float)) / 240
    position = np.arange(size - 1) - size / 2 + 1
    assert slope.sum() == 1 and np.sum(slope * position) == pytest.approx(0, abs=0.05)
    assert np.sqrt(np.sum(slope * position ** 2)) == pytest.approx(sigma * size / 128, rel=0.04)


def test_jpeg_of_low_quality_is_worse():
    fine = soft_image(seed=3) // 2 + np.random.default_rng(0).integers(0, 128, (128, 128, 3), np.uint8)
    error = [np.abs(jpeg(fine, np.random.default_rng(0), AugmentConfig.off(jpeg=1.0, jpeg_quality=(q, q)))
                    - fine.astype(float)).mean() for q in (95, 50, 10)]
    assert 0 < error[0] < error[1] < error[2] < 40


def test_noise_has_its_strength_and_fades():
    grey = np.full((128, 128, 3), 128, np.uint8)
    config = AugmentConfig.off(noise=(12, 12), noise_end=(3, 3))
    for progress, expected in ((0.0, 12), (0.5, 7.5), (1.0, 3)):
        assert noise_range(config, progress) == (expected, expected)
        difference = add_noise(grey, np.random.default_rng(0), config, progress).astype(float) - 128
        assert difference.std() == pytest.approx(expected, rel=0.02) and abs(difference.mean()) < 0.2
    one = add_noise(grey, np.random.default_rng(0), config)
    assert (one != add_noise(grey, np.random.default_rng(1), config)).mean() > 0.9
    assert abs(np.corrcoef(one[..., 0].ravel(), one[..., 1].ravel())[0, 1]) < 0.03
    white = add_noise(np.full((64, 64, 3), 255, np.uint8), np.random.default_rng(0), config)
    assert white.max() == 255 and white.min() > 180          # clipped, not wrapped around


def test_an_image_larger_than_the_noise_gets_noise():
    large = add_noise(np.full((900, 900, 3), 128, np.uint8), np.random.default_rng(0), AugmentConfig.off(noise=(9, 9)))
    assert large.astype(float).std() == pytest.approx(9, rel=0.02)


def test_the_same_seed_gives_the_same_bytes():
    other = soft_image(200, seed=5)
    runs = [[augment(sample(seed=i), rng, other=other, progress=0.3) for i in range(60)]
            for rng in (np.random.default_rng(4), np.random.default_rng(4), np.random.default_rng(5))]
    for a, b in zip(*runs[:2]):
        assert all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b))
    assert sum(np.array_equal(a.image, c.image) for a, c in zip(runs[0], runs[2])) == 0


def test_off_changes_nothing_and_the_input_is_never_changed():
    before, copy = sample(), sample()
    same = augment(before, np.random.default_rng(0), OFF, other=soft_image(seed=8))
    assert all(np.array_equal(a, b) for a, b in zip(same, copy))
    every = AugmentConfig(blob=1.0, hand=1.0, bar=1.0, blur=1.0, motion=1.0, coarse=1.0, jpeg=1.0, shuffle=1.0)
    for seed in range(10):
        after = augment(before, np.random.default_rng(seed), every, other=before.image)
        assert after.image.dtype == np.uint8 and after.image.shape == (128, 128, 3)
        assert after.points.dtype == np.float32 and after.visible.dtype == bool
        assert not after.visible.all()
    assert all(np.array_equal(a, b) for a, b in zip(before, copy))


def test_no_step_mirrors():
    """Left and right stay: the orientation of three points never turns around."""
    points = np.array([[40, 40], [88, 40], [64, 90]], np.float32)
    for seed in range(100):
        (ax, ay), (bx, by), (cx, cy) = augment(Sample(soft_image(), points, np.ones(3, bool)),
                                               np.random.default_rng(seed)).points
        assert (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) > 0


@pytest.mark.parametrize("size", [1, 16, 96, 256])
def test_other_sizes_and_no_points(size):
    bare = Sample(soft_image(size), np.zeros((0, 2), np.float32), np.zeros(0, bool))
    for seed in range(20):
        after = augment(bare, np.random.default_rng(seed), other=soft_image(40, seed=2))
        assert after.image.shape == (size, size, 3) and after.points.shape == (0, 2) and after.visible.shape == (0,)


@pytest.mark.parametrize("broken, rule", [
    (lambda s: s._replace(image=s.image.astype(np.float32)), r"image: must be \(S, S, 3\) uint8.*float32"),
    (lambda s: s._replace(image=s.image[..., 0]), r"image: must be \(S, S, 3\) uint8, got \(128, 128\)"),
    (lambda s: s._replace(points=s.points[:, :1]), r"points: must be \(K, 2\), got \(68, 1\)"),
    (lambda s: s._replace(visible=s.visible[1:]), r"visible: must be \(68,\) bool, got \(67,\)"),
    (lambda s: s._replace(visible=s.visible.astype(int)), r"visible: must be \(68,\) bool.*int64")])
def test_wrong_samples_are_named(broken, rule):
    with pytest.raises(ValueError, match=rule):
        augment(broken(sample()), np.random.default_rng(0))


def test_wrong_settings_are_named():
    for change, rule in ((dict(scale=(1.2, 0.9)), "scale: must be low <= high"), (dict(blob=1.5), "blob: must"),
                         (dict(jpeg_quality=(0, 90)), "jpeg_quality: .* within 1 to 100"),
                         (dict(gamma=(0.0, 1.0)), "gamma: "), (dict(noise=(float("nan"), 3)), "noise: ")):
        with pytest.raises(ValueError, match=rule):
            AugmentConfig(**change)
    with pytest.raises(ValueError, match="progress: must be within 0 to 1, got 2"):
        augment(sample(), np.random.default_rng(0), progress=2)
    with pytest.raises(ValueError, match="other: must be"):
        augment(sample(), np.random.default_rng(0), DEFAULT, other=np.zeros((4, 4), np.uint8))
