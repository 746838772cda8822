"""What training changes with time and borrows from other images: each generator hands on its progress and another
image, and each step uses them."""
import dataclasses

import numpy as np
import pytest

from Datagenerator.augmentation import occluders
from Datagenerator.augmentation.augment import AugmentConfig, Sample, augment, occlude
from Datagenerator.augmentation.maps import MapAugmentConfig, MapSample, augment_maps, hide
from Datagenerator.sequences import (coefficients as coefficient_dataset, keypoints as shard_dataset,
                                     maps as map_dataset, volumes as volume_dataset)
from Datagenerator.sequences.coefficients import CoefficientConfig, CoefficientSequence
from Datagenerator.sequences.keypoints import ShardConfig, ShardSequence
from Datagenerator.sequences.maps import DepthConfig, MapConfig, MapSequence
from Datagenerator.sequences.volumes import VolumeConfig, VolumeSequence
from Dataset.representations.coefficients import mean_face, project
from tests.coded import ImageSource

S, SUBJECTS = 32, 6
GREY = np.full((64, 64, 3), 128, np.uint8)


def sample() -> Sample:
    grid = (np.mgrid[:64, :64].reshape(2, -1).T[:, ::-1] + 0.5).astype(np.float32)
    return Sample(GREY.copy(), grid, np.ones(len(grid), bool))


def map_sample() -> MapSample:
    return MapSample(GREY.copy(), np.zeros((64, 64, 2), np.float16), np.ones((64, 64), bool),
                     np.ones((64, 64), np.float32))


@pytest.mark.parametrize("progress, sigma", [(0.0, 12.0), (0.5, 6.0), (1.0, 0.0)])
def test_noise_fades_to_nothing_through_all_steps(progress, sigma):
    noise = dict(noise=(12.0, 12.0), noise_end=(0.0, 0.0))
    found = [augment(sample(), np.random.default_rng(0), AugmentConfig.off(**noise), progress).image,
             augment_maps(map_sample(), np.random.default_rng(0), MapAugmentConfig.off(**noise), progress).image]
    for image in found:
        assert image.astype(float).std() == pytest.approx(sigma, rel=0.05)


def source() -> ImageSource:
    """Everybody's image is one grey level of his own: 20, 40, ... 120."""
    images = np.zeros((SUBJECTS, 2, S, S, 3), np.uint8) + np.arange(20, 140, 20, dtype=np.uint8).reshape(-1, 1, 1, 1, 1)
    images[:, :, 0, 0] = 255                # not quite flat: each image is stretched by its range
    both = (SUBJECTS, 2)
    keypoints = project(mean_face(np.zeros(6, np.float32)), "keypoints", S).astype(np.float32)
    return ImageSource(images=images, identity=np.zeros((SUBJECTS, 200), np.float32),
                       image_points=np.broadcast_to(keypoints, (*both, 256, 2)).copy(),
                       visible=np.ones((*both, 256), bool),
                       expression=np.zeros((*both, 84), np.float32), pose=np.zeros((*both, 6), np.float32),
                       camera=np.broadcast_to(np.array([90, 16, 16, 700], np.float32), (*both, 4)).copy(),
                       landmarks=np.full((*both, 68, 2), 16, np.float32), mask=np.ones((*both, S, S), bool),
                       visible_mask=np.ones((*both, S, S), bool), uv=np.zeros((*both, S, S, 2), np.float16),
                       depth=np.full((*both, S, S), 700, np.float32))


def sequences() -> list[tuple]:
    subjects, common = source(), dict(validation_subjects=1, image_size=S, fade_epochs=60)
    single = dict(common, batch_size=6)
    return [(shard_dataset, "augment", ShardSequence(subjects, subjects.subjects, ShardConfig(
                max_images=2, batch_images=6, points=256, **common), lambda i: np.zeros((len(i), 256, 3)), True)),
            (map_dataset, "augment_maps", MapSequence(subjects, subjects.subjects, MapConfig(empty=0.0, **single),
                                                      True)),
            (map_dataset, "augment_maps", MapSequence(subjects, subjects.subjects, DepthConfig(**dict(
                single, augment=True)), True)),
            (volume_dataset, "augment_maps", VolumeSequence(subjects, subjects.subjects, VolumeConfig(
                layers=32, photos=True, **single), True)),
            (coefficient_dataset, "augment", CoefficientSequence(subjects, subjects.subjects,
                                                                 CoefficientConfig(**single), True))]


@pytest.mark.parametrize("which", range(5), ids=["shards", "uv", "depth", "volume", "coefficients"])
def test_generators_hand_on_progress_and_images_of_others(which, monkeypatch):
    module, name, sequence = sequences()[which]
    given, real = [], getattr(module, name)

    def noted(sample, rng, config, progress=None, other=None):
        given.append((sample.image, progress, other))
        return real(sample, rng, config, progress, other)
    monkeypatch.setattr(module, name, noted)
    for epoch, expected in ((0, 0.0), (15, 0.25), (60, 1.0), (90, 1.0)):
        given.clear()
        sequence.batch(epoch, 0)
        assert given and {progress for _, progress, _ in given} == {expected}
    given.clear()
    for index in range(4):
        sequence.batch(0, index)
    levels = []
    for image, _, others in given:
        for other in others if isinstance(others, tuple) else (others,):
            assert other.dtype == np.uint8 and other.shape == (S, S, 3) and len(np.unique(other)) == 2
            levels.append(int(np.median(other)))
    own = [int(np.median(image)) for image, _, others in given for _ in (others if isinstance(others, tuple) else "1")]
    assert len(set(levels)) >= 4 and set(levels) <= set(range(20, 140, 20))         # of anybody
    assert np.mean(np.array(levels) == own) < 0.5 or which == 3     # a volume's image may have been made brighter


def test_blobs_are_filled_with_the_other_image():
    """One fill in three; through `blob`, `occlude` and `augment` alike."""
    other, config = np.zeros((40, 50, 3), np.uint8) + np.array([3, 90, 201], np.uint8), AugmentConfig.off(
        blob=1.0, blob_cover=(0.3, 0.3))
    found = []
    for seed in range(60):
        images = (occluders.blob((64, 64), 0.3, np.random.default_rng(seed), other).colour,
                  occlude(sample(), np.random.default_rng(seed), config, other).image,
                  augment(sample(), np.random.default_rng(seed), config, other=other).image)
        found.append([bool((image == (3, 90, 201)).all(-1).mean() > 0.2) for image in images])
    assert all(12 <= count <= 30 for count in np.sum(found, 0)), np.sum(found, 0)


def test_crops_hide_faces_in_the_second_images_colours():
    shapes = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    other = np.zeros((40, 50, 3), np.uint8) + np.array([3, 90, 201], np.uint8)
    config, covered = MapAugmentConfig.off(crops=1.0), 0
    for step in (hide, lambda s, rng, config, others: augment_maps(s, rng, config, 0.0, others)):
        for seed in range(10):
            after = step(map_sample(), np.random.default_rng(seed), config, (shapes, other))
            hidden = after.visible_mask < 0.01
            covered += hidden.any()
            assert np.abs(after.image[hidden].astype(int) - (3, 90, 201)).max(initial=0) <= 2
    assert covered >= 12


def layer(rows: slice, columns: slice, alpha: float = 1.0) -> occluders.Layer:
    image = np.zeros((64, 64), np.float32)
    image[rows, columns] = alpha
    return occluders.Layer(np.full((64, 64, 3), 7, np.uint8), image)


def test_a_second_occluder_leaves_the_first_ones_points_hidden(monkeypatch):
    monkeypatch.setattr(occluders, "hand", lambda shape, rng: layer(np.s_[:20], np.s_[:16]))
    monkeypatch.setattr(occluders, "bar", lambda shape, rng: layer(np.s_[30:40], np.s_[50:]))
    both = np.zeros((64, 64), bool)
    both[:20, :16] = both[30:40, 50:] = True
    after = occlude(sample(), np.random.default_rng(0), AugmentConfig.off(hand=1.0, bar=1.0))
    np.testing.assert_array_equal(after.visible.reshape(64, 64), ~both)
    maps = hide(map_sample(), np.random.default_rng(0), MapAugmentConfig.off(hand=1.0, bar=1.0))
    np.testing.assert_array_equal(maps.visible_mask, np.where(both, 0, 1))
    for image in (after.image, maps.image):
        np.testing.assert_array_equal((image == 7).all(-1), both)


def test_half_seen_through_two_layers_is_seen_a_quarter(monkeypatch):
    monkeypatch.setattr(occluders, "hand", lambda shape, rng: layer(np.s_[:20], np.s_[:], 0.5))
    monkeypatch.setattr(occluders, "bar", lambda shape, rng: layer(np.s_[10:30], np.s_[:], 0.5))
    config = dataclasses.replace(MapAugmentConfig.off(hand=1.0, bar=1.0), max_covered=1.0)
    seen = hide(map_sample(), np.random.default_rng(0), config).visible_mask[:, 0]
    np.testing.assert_allclose(seen[[0, 15, 25, 40]], [0.5, 0.25, 0.5, 1])


def test_too_much_counts_all_layers_together(monkeypatch):
    """Each of two bars hides 31 % of the image; with at most 40 % the second is left out."""
    monkeypatch.setattr(occluders, "hand", lambda shape, rng: layer(np.s_[:20], np.s_[:]))
    monkeypatch.setattr(occluders, "bar", lambda shape, rng: layer(np.s_[40:60], np.s_[:]))
    config = dict(hand=1.0, bar=1.0, max_covered=0.4)
    after = occlude(sample(), np.random.default_rng(0), AugmentConfig.off(**config))
    maps = hide(map_sample(), np.random.default_rng(0), MapAugmentConfig.off(**config))
    expected = np.arange(64) >= 20
    np.testing.assert_array_equal(after.visible.reshape(64, 64)[:, 5], expected)
    np.testing.assert_array_equal(maps.visible_mask[:, 5] > 0, expected)
