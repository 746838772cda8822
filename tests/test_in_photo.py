"""Predictor.photo: what a system says of one photo alone, its landmarks in it among that."""
from pathlib import Path

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import to_unit_sphere, umeyama
from Dataset.representations.depth import encode_depth
from Dataset.representations.points import encode, grid_of
from Dataset.representations.volume import encode as volume, solid
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext
from Evaluation.icp import icp
from Network.engine.loaded import Loaded
from Network.inference.registry import predictor_of
from Network.models import compact
from tests.test_compact import TINY
from tests.test_streaming import _loaded

MODEL = load_face_model()


@pytest.fixture(scope="module")
def subject():
    """Arrays of two images of a subject (Dataset.synthesis.renders.layout) with an expression, yaw up to 40 degrees."""
    options = RenderOptions(subjects=1, images=2, size=128, seed=78, yaw=40, pitch=15, roll=20, detect=0, clutter=0,
                            glasses=0, buffers=("uv", "mask", "visible_mask", "depth"))
    return render_subject(0, options, RenderContext(MODEL, threads=1))


def says(output: np.ndarray, network: str) -> Loaded:
    """A network that says the same of every photo."""
    import tensorflow as tf
    return Loaded(lambda images, training: tf.constant(output[None]), {"network": network}, Path("fake"), 128 ** 2,
                  len(output), None, "grid")


def percent(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance in per cent of the square root of the area that the landmarks span."""
    return 100 * np.linalg.norm(found - truth, axis=1).mean() / np.sqrt(np.prod(np.ptp(truth, axis=0)))


def test_true_maps_give_the_face_with_its_expression_and_the_landmarks(subject):
    for k in range(2):
        maps = np.concatenate([np.nan_to_num(subject["uv"][k].astype(np.float32)),
                               np.stack([subject["mask"][k], subject["visible_mask"][k]], -1).astype(np.float32)], -1)
        points, landmarks, _ = predictor_of(says(maps, "uvnet")).photo(np.zeros((128, 128, 3), np.uint8))
        assert percent(landmarks, subject["landmarks"][k] / 128) < 1.0
        truth = grid_of(MODEL.shape(subject["identity"], subject["expression"][k]), MODEL)
        neutral = grid_of(np.asarray(MODEL.mean, float), MODEL)
        error, floor = (np.linalg.norm(umeyama(face, truth).apply(face) - truth, axis=1).mean()
                        for face in (points, neutral))
        assert error < 0.6 * floor


def test_depth_gives_points_and_no_landmarks(subject):
    depth = encode_depth(subject["depth"][0], subject["visible_mask"][0], subject["camera"][0, 0])
    points, landmarks, _ = predictor_of(says(depth, "pix2pix")).photo(np.zeros((128, 128, 3), np.uint8))
    assert landmarks is None and points.shape[1] == 3 and np.linalg.norm(points, axis=1).max() == pytest.approx(1)


def test_a_volume_gives_the_surface_that_the_camera_sees_and_landmarks():
    """All of it lies on the true face, and nothing of the cone behind it is there; the fit to it says where the
    landmarks lie in the image."""
    head = MODEL.shape(MODEL.sample_identity(np.random.default_rng(6)))
    closed = solid(head, MODEL)
    camera = look_at_face(64, 800.0, 4.2 * 64)
    logits = np.where(volume(closed, camera, 68), 8.0, -8.0).astype(np.float32)
    points, landmarks, _ = predictor_of(says(logits, "vrn")).photo(np.zeros((64, 64, 3), np.uint8))
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
    seen = camera.project(MODEL.landmarks(head))
    assert landmarks.shape == (68, 2) and percent(landmarks, np.stack([seen.x, seen.y], -1) / 64) < 4
    truth = encode(head, model=MODEL).reshape(-1, 3)
    aligned = icp(points.astype(np.float64), to_unit_sphere(truth)[0], with_scale=True)
    assert 150 * aligned.distances.mean() < 1.5         # mm of a face of some 150 mm radius; voxels are of 3 mm


@pytest.mark.parametrize("network, empty", [("uvnet", np.zeros((128, 128, 4), np.float32)),
                                            ("pix2pix", np.full((128, 128, 1), -1, np.float32)),
                                            ("vrn", np.full((64, 64, 68), -5, np.float32))])
def test_no_face_is_the_mean_face_without_landmarks(network, empty):
    points, landmarks, seen = predictor_of(says(empty, network)).photo(np.zeros((*empty.shape[:2], 3), np.uint8))
    np.testing.assert_array_equal(points, grid_of(np.asarray(MODEL.mean, float), MODEL))
    assert landmarks is None and not seen


def test_compact_says_what_it_predicts():
    predictor = predictor_of(_loaded(compact, TINY))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    points, landmarks, _ = predictor.photo(image)
    np.testing.assert_array_equal(points, predictor.face.photo_points)
    assert points.shape == (16384, 3) and landmarks.shape == (68, 2) and np.isfinite(landmarks).all()


def test_a_model_of_several_images_sees_one_several_times():
    loaded = Loaded(lambda images, training: np.asarray(images).sum((1, 2))[:, :4], {}, Path("bare"), 4, 8, 3, "random")
    half = np.repeat(np.uint8([0, 255]), 4)[:, None, None] * np.ones((1, 8, 3), np.uint8)
    points, landmarks, _ = predictor_of(loaded).photo(half)
    assert landmarks is None and (points == 3 * 4).all()
