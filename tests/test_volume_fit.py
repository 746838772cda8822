"""Dataset/fitting/volume_fit.py and Network/inference/vrn.py: made subjects, from any side, come back; nothing is no
face."""
import dataclasses

import keras
import numpy as np
import pytest

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.fitting.volume_fit import _start, _surface, fit_volume
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.points import encode as grid
from Dataset.representations.volume import encode, frame_of, solid, to_bytes
from Network.export.pack import pack
from Network.inference.photos import NoFace
from Network.inference.readings import read_landmarks
from Network.inference.registry import from_run, predictor_of
from Network.inference.vrn import sigmoid, surface_of, visible_points
from Network.models import vrn
from Network.training.checkpoints import RunFolder
from Network.training.loading import load_model
from tests.seen import squared_error
from tests.test_fitted import fake

SIZE, LAYERS = 64, 68


def made(angles, seed: int = 3):
    """A subject's volume, its frame, identity, and the head (V, 3) in the camera's world."""
    model, rng = load_face_model(), np.random.default_rng(seed)
    identity = model.sample_identity(rng)
    head = model.shape(identity, model.sample_expression(rng, 0.5)) @ rotation_from_euler(*angles).T
    closed = solid(head, model)
    camera = look_at_face(SIZE, 700.0, 3.6 * SIZE, (1.0, -2.0))
    return encode(closed, camera, LAYERS), frame_of(closed.vertices, camera, LAYERS), identity, head


@pytest.mark.parametrize("angles", [(0, 0, 0), (50, 20, -35), (-85, -15, 20), (75, -30, 40)])
def test_the_start_finds_any_turn(angles):
    model = load_face_model()
    values, frame, _, _ = made(angles)
    pose = _start(_surface(values, frame, 32).vertices, model)
    off = (np.trace(pose.rotation.T @ rotation_from_euler(*angles)) - 1) / 2
    assert np.degrees(np.arccos(min(off, 1.0))) < 8 and 0.85 < pose.scale < 1.15


def test_a_turned_face_is_found_with_a_guessed_camera():
    model = load_face_model()
    values, frame, identity, head = made((60, 10, -30))
    fit = fit_volume(values)
    assert squared_error(model, identity, fit.identity) < 0.45      # of the mean face's; voxels are of 3 mm
    miss = np.linalg.norm(grid(fit.vertices, 32, model) - grid(frame.voxels(head), 32, model), axis=-1)
    assert miss.mean() < 1.0 and fit.residual < 1.0                 # voxels; mm
    again = fit_volume(to_bytes(values.astype(float)))
    np.testing.assert_allclose(again.identity, fit.identity, atol=1e-6)


def test_a_reading_says_where_the_face_lies():
    model = load_face_model()
    values, frame, identity, head = made((-40, 0, 15))
    logits = np.where(values, 9.0, -9.0).astype(np.float32)
    fitter = predictor_of(fake(np.zeros((1, SIZE, SIZE, LAYERS), np.float32), "vrn"))
    reading = fitter.read(logits)
    true = model.landmarks(frame.voxels(head))[:, :2] / SIZE
    assert np.linalg.norm(reading.landmarks - true, axis=1).mean() < 0.03
    subject = fitter.fit([reading, reading])
    assert subject.points.shape == subject.photo_points.shape == (128 ** 2, 3) and subject.points.dtype == np.float32
    assert np.linalg.norm(subject.points, axis=1).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(subject.keypoints, reading.keypoints)
    cloud = visible_points(logits, 500)
    assert cloud.shape == (500, 3) and cloud.dtype == np.float32
    np.testing.assert_array_equal(cloud, visible_points(logits, 500))
    surface = surface_of(sigmoid(logits))
    assert abs(surface.vertices.mean(0)).max() < SIZE / 4
    top = surface.vertices[surface.vertices[:, 1].argmax()]
    assert top[1] > 0 and values[: SIZE // 2].any()         # y points up


def test_nothing_is_no_face():
    nothing = np.full((SIZE, SIZE, LAYERS), -8.0, np.float32)
    few = nothing.copy()
    few[3:6, 3:6, 3:6] = 8
    broken = np.full_like(nothing, np.nan)
    fitter = predictor_of(fake(nothing[None], "vrn"))
    for logits in (nothing, few, broken):
        with pytest.raises(NotFittable, match="volume: empty: a face fills at least 0.4%"):
            fitter.read(logits)
        with pytest.raises(NoFace, match="no face"):
            visible_points(logits)
    with pytest.raises(NotFittable, match="empty"):
        surface_of(sigmoid(nothing))


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise"):
        found = sigmoid(np.array([-1e30, -20, 0, 20, 1e30, np.inf, np.nan], np.float32))
    np.testing.assert_allclose(found, [0, 2.06e-9, 0.5, 1, 1, 1, 0], atol=1e-7)


@pytest.mark.parametrize("variant", vrn.VARIANTS)
def test_heat_maps_say_landmarks_where_there_are_some(variant, tmp_path):
    """A run folder's maps are those of the network that was trained; a weight folder keeps them, too."""
    keras.utils.set_random_seed(4)
    config = vrn.Config(variant=variant, image_size=16, layers=12, features=8, stem=(4, 6), depth=2, head=(6,),
                        landmark_features=4)
    model, run = vrn.build_training(config), RunFolder(tmp_path / "run")
    run.start({"network": "vrn", "model": dataclasses.asdict(config), "order": "grid"})
    run.save_weights(model, "best_validation")
    loaded, images = load_model(run.path), np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    read = predictor_of(loaded).heat_landmarks()
    assert (read is None) == (variant == "plain")
    if read is not None:
        np.testing.assert_allclose(read(images), read_landmarks(np.asarray(model(images)["heat_maps"])), atol=1e-6)
    pack(loaded, tmp_path / "box", np.zeros((1, 1, 16, 16, 3), np.float32))
    boxed = from_run(tmp_path / "box").heat_landmarks()
    assert (boxed is None) == (variant == "plain")
    if boxed is not None:
        assert boxed(images).shape == (2, 68, 2)
