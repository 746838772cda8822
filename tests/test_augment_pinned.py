"""Augmentation by numbers: grey of BGR, blur that grows with the image, and images that are not square."""
import cv2
import numpy as np
import pytest

from Datagenerator.augmentation import occluders
from Datagenerator.augmentation.augment import AugmentConfig, Sample, blur, coarsen, colours, jitter, light, occlude
from Datagenerator.sequences.keypoints import mirror
from Datagenerator.sequences.maps import without_face

WIDE, TALL = (96, 176), (176, 96)


def test_grey_is_of_blue_green_red():
    """ITU-R BT.601 luma: 0.114 blue, 0.587 green, 0.299 red."""
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    grey = colours(image, np.random.default_rng(0), AugmentConfig.off(grey=1.0))
    assert grey[0, :, 0].tolist() == [29, 150, 76, 255] and (grey == grey[..., :1]).all()


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("length", [4.0, 8.0])
def test_motion_blur_is_as_long_in_any_size_of_image(size, length):
    """A point becomes a line whose length, in pixels of a side of 128, is the config's."""
    point = np.zeros((size, size, 3), np.uint8)
    point[size // 2 - 2:size // 2 + 3, size // 2 - 2:size // 2 + 3] = 255       # 5 px, so that a long line is not lost
    config, lengths = AugmentConfig.off(motion=1.0, motion_length=(length, length)), []
    for seed in range(6):
        row, column = np.nonzero(blur(point, np.random.default_rng(seed), config)[..., 0])
        angle = np.radians(np.arange(0, 180, 2))
        lengths.append(max(np.ptp(column * c + row * s) - 4 * (abs(c) + abs(s))
                           for c, s in zip(np.cos(angle), np.sin(angle))))
    assert np.mean(lengths) == pytest.approx(length * size / 128, abs=1.2)


@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_jitter_of_images_that_are_not_square(shape):
    """A dot stays under its point, the middle stays in the middle, shifts are fractions of each side, and a point is
    seen as long as it is in the image."""
    height, width = shape
    y, x = np.mgrid[:height, :width] + 0.5
    keypoint = np.array([[width * 0.6, height * 0.4]], np.float32)
    dot = np.exp(-((x - keypoint[0, 0]) ** 2 + (y - keypoint[0, 1]) ** 2) / 8)
    image = np.round(255 * dot)[..., None].repeat(3, -1).astype(np.uint8)
    for seed in range(6):
        config = AugmentConfig.off(scale=(0.9, 1.1), shift=0.05, rotation=20.0)
        after = jitter(Sample(image, keypoint, np.ones(1, bool)), np.random.default_rng(seed), config)
        assert after.image.shape == (*shape, 3)
        weight = after.image[..., 0].astype(float)
        found = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(found, after.points[0], atol=0.1)
    corners = np.array([[width / 2, height / 2], [1, 1], [width - 1, height - 1]], np.float32)
    bare = np.zeros((*shape, 3), np.uint8)
    after = jitter(Sample(bare, corners, np.ones(3, bool)), np.random.default_rng(0),
                   AugmentConfig.off(scale=(0.8, 0.8)))
    np.testing.assert_allclose(after.points[0], (width / 2, height / 2), atol=1e-3)
    assert after.visible.all()
    moved = [jitter(Sample(bare, corners[:1], np.ones(1, bool)), np.random.default_rng(seed),
                    AugmentConfig.off(shift=0.1)).points[0] - (width / 2, height / 2) for seed in range(80)]
    reach = np.abs(moved).max(0) / (0.1 * width, 0.1 * height)
    assert (reach > 0.9).all() and (reach <= 1).all()


@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_the_mirror_stands_in_the_middle_of_the_width(shape):
    points = np.stack([np.arange(256.0) / 4, np.arange(256.0) / 8], -1).astype(np.float32)
    image = np.broadcast_to(np.arange(shape[1], dtype=np.uint8)[:, None], (*shape, 3)).copy()
    after = mirror(Sample(image, points, np.arange(256) < 5))
    order = np.arange(256).reshape(16, 16)[:, ::-1].ravel()
    np.testing.assert_allclose(after.points, points[order] * (-1, 1) + (shape[1], 0))
    np.testing.assert_array_equal(after.visible, (np.arange(256) < 5)[order])
    assert after.image[0, 0, 0] == shape[1] - 1


@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_occluders_of_images_that_are_not_square(shape, monkeypatch):
    """Points are hidden in the last rows and columns, too; hands and bars come everywhere."""
    height, width = shape
    alpha = np.zeros(shape, np.float32)
    alpha[-6:, -6:] = 1
    monkeypatch.setattr(occluders, "bar", lambda shape, rng: occluders.Layer(np.zeros((*shape, 3), np.uint8), alpha))
    corner = np.array([[width - 1, height - 1], [width - 9, height - 1], [3, 3]], np.float32)
    after = occlude(Sample(np.full((*shape, 3), 9, np.uint8), corner, np.ones(3, bool)), np.random.default_rng(0),
                    AugmentConfig.off(bar=1.0))
    assert after.visible.tolist() == [False, True, True]
    monkeypatch.undo()
    y, x = np.mgrid[:height, :width]
    for draw, sigma in ((occluders.hand, 0.22), (occluders.bar, 0.3)):
        middles = []
        for seed in range(60):
            mass = draw(shape, np.random.default_rng(seed)).alpha
            middles.append([(x * mass).sum() / mass.sum() / width, (y * mass).sum() / mass.sum() / height])
        assert np.abs(np.mean(middles, 0) - 0.5).max() < 0.12, draw
        assert (np.ptp(middles, axis=0) > sigma).all(), draw


@pytest.mark.parametrize("shape, plane", [((20, 90), (60, 300)), ((90, 20), (300, 60))])
def test_crops_come_from_all_of_the_plane_and_their_middle_is_what_was_drawn(shape, plane):
    y, x = np.mgrid[:plane[0], :plane[1]].astype(np.float32) + 0.5
    positions, middles = np.stack([x, y], -1), []
    for seed in range(60):
        crop = occluders.random_crop(positions, shape, np.random.default_rng(seed), (4.0, 4.0))
        again = np.random.default_rng(seed)
        again.uniform(4.0, 4.0), again.uniform(0, 2 * np.pi)
        expected = again.random(2) * plane[::-1]
        middles.append(crop[shape[0] // 2, shape[1] // 2])
        border = np.minimum(expected, np.subtract(plane[::-1], expected)).min()
        if border > 1:          # beyond it the plane is reflected
            np.testing.assert_allclose(middles[-1], expected, atol=0.7)
    assert (np.ptp(middles, axis=0) > 0.85 * np.array(plane[::-1])).all()


@pytest.mark.parametrize("shape", [WIDE, TALL])
def test_coarse_images_keep_their_shape(shape):
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), shape[::-1])
    after = coarsen(image, np.random.default_rng(0), AugmentConfig.off(coarse=1.0, coarse_factor=(0.3, 0.3)))
    assert after.shape == image.shape and np.abs(after.astype(int) - image).mean() < 12


def test_a_gain_below_nothing_is_black():
    """A factor of a channel that is drawn below 0 gives black, not the gamma of a negative number."""
    white, config, black = np.full((1, 1, 3), 200, np.uint8), AugmentConfig.off(gain_sd=1.0, contrast=(0.5, 0.5)), 0
    for seed in range(80):
        pixel = light(white, np.random.default_rng(seed), config)[0, 0]
        black += int((pixel == 64).sum())           # mid-grey 127.5 and half of black's distance to it
        assert pixel.min() >= 64
    assert black > 10


def test_strips_beside_a_face_are_cut_within_the_image():
    """A strip as high as the image beside a face in its left part: what is drawn out is of that strip, and from all
    of its height."""
    image = np.zeros((60, 60, 3), np.uint8)
    image[..., 1] = np.arange(60)[:, None]
    image[:, 40:, 2] = 255
    mask = np.zeros((60, 60), bool)
    mask[:, :30] = True                         # 30 + 2 px: the strip begins at 33
    tops = []
    for seed in range(80):
        faceless = without_face(image, mask, np.random.default_rng(seed))
        assert faceless.shape == (60, 60, 3)
        if faceless[30, 50, 2] == 255 and faceless[30, 50, 0] == 0:
            tops.append(int(faceless[0, 0, 1]))
    assert len(tops) > 15 and max(tops) > 25 and min(tops) < 8
