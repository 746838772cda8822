"""Shards -> images and volumes: who is in them, and that both move together (the slow way: move the camera)."""
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from Datagenerator.loading.epoch import Shard
from Datagenerator.sequences.volumes import (Motion, VolumeConfig, draw_motion, heat_maps, make_volume_sequences,
                                             mirrored_landmarks, move_image, move_pixels, move_voxels)
from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.volume import encode, fill, frame_of, solid
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.scene import pose_vertices
from Dataset.synthesis.shards import make_shards, open_shards

PLAIN = VolumeConfig(batch_size=4, batches=3, validation_subjects=2, image_size=32, layers=36)
MANY = dataclasses.replace(PLAIN, photos=True, empty=0.3, mirror=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "subjects"
    make_shards(path, RenderOptions(subjects=5, images=2, size=32, seed=5, detect=0.0, yaw=60))
    return path


def sequences(folder, config=PLAIN):
    return make_volume_sequences(open_shards(folder), config)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero((a > 0) & (b > 0)) / np.count_nonzero((a > 0) | (b > 0))


@pytest.mark.parametrize("config", [PLAIN, MANY])
def test_shapes_and_ranges(folder, config):
    for sequence in sequences(folder, config):
        for index in range(len(sequence)):
            x, y = sequence.batch(1, index)
            shape, targets = sequence.shapes
            assert x.shape[1:] == shape[1:] and len(x) == 4 and x.dtype == np.float32
            assert {name: (None, *v.shape[1:]) for name, v in y.items()} == targets
            assert all(v.dtype == np.float32 for v in y.values())
            assert set(np.unique(y["volume"])) <= {0, 1} and 0 <= y["heat_maps"].min() <= y["heat_maps"].max() <= 1
            filled = y["volume"].mean((1, 2, 3))
            assert ((filled > 0.02) | ((filled == 0) & (config.empty > 0))).all() and (filled < 0.5).all()
            assert (y["heat_maps"][filled == 0] == 0).all()


def test_a_batch_depends_on_seed_epoch_and_index_alone(folder):
    training = sequences(folder, MANY)[0]
    with ThreadPoolExecutor(3) as pool:         # as the pipeline calls it
        for (x, y), index in zip(pool.map(lambda i: training.batch(1, i), range(3)), range(3)):
            again = sequences(folder, MANY)[0].batch(1, index)
            np.testing.assert_array_equal(x, again[0])
            np.testing.assert_array_equal(y["volume"], again[1]["volume"])
    others = (training.batch(1, 1), training.batch(0, 2),
              sequences(folder, dataclasses.replace(MANY, seed=1))[0].batch(1, 2))
    assert all(np.abs(x - training.batch(1, 2)[0]).max() > 0.1 for x, _ in others)
    x, y = training.batch(0, 0)
    part = training.batch(0, 0, Shard(1, 2))
    np.testing.assert_array_equal(part[0], x[2:])
    np.testing.assert_array_equal(part[1]["heat_maps"], y["heat_maps"][2:])
    with pytest.raises(ValueError, match="too small for 5 workers"):
        training.check_shard(Shard(0, 5))


def test_held_out_subjects_are_not_trained_on(folder):
    training, validation = sequences(folder)
    assert set(training.subjects) == {2, 3, 4} and set(validation.subjects) == {0, 1}
    assert {p for e in range(4) for p in training.draw(e, 0)[0].ravel()} == {2, 3, 4}
    np.testing.assert_array_equal(validation.batch(0, 0)[0], validation.batch(7, 0)[0])
    with pytest.raises(ValueError, match="0 subjects to train on and 5 for validation"):
        make_volume_sequences(open_shards(folder), dataclasses.replace(PLAIN, validation_subjects=99))


def test_the_volume_is_the_renders(folder):
    """What is filled is what the mesh fills before the shard's camera, and landmarks lie where the shard has them."""
    shards, model = open_shards(folder), load_face_model()
    sequence = sequences(folder)[1]
    voxels, landmarks = sequence.truth(1, 1)
    vertices = pose_vertices(model.shape(*(shards.gather(*args)[0] for args in (
        ("identity", [1]), ("expression", [1], [1])))), shards.gather("pose", [1], [1])[0])
    focal, x, y, distance = shards.gather("camera", [1], [1])[0].astype(float)
    camera = look_at_face(32, distance, focal)._replace(centre=(x, y))
    expected = encode(solid(vertices, model), camera, 36)
    np.testing.assert_array_equal(fill(voxels, solid(vertices, model).triangles, 32, 36), expected)
    seen = camera.project(model.landmarks(vertices))
    np.testing.assert_allclose(landmarks, np.stack([seen.x, seen.y], -1), atol=1e-3)
    np.testing.assert_array_equal(sequence.batch(0, 0)[1]["volume"][3] > 0, expected)   # 0/0, 1/0, 0/1, 1/1
    half = sequences(folder, dataclasses.replace(PLAIN, image_size=16, layers=18))[1]
    np.testing.assert_allclose(half.truth(1, 1)[0], voxels / 2, atol=1e-6)
    assert half.batch(0, 0)[0].shape == (4, 16, 16, 3)
    with pytest.raises(ValueError, match="subjects: holds images of 32 px, fewer than image_size 64; .* --size 64$"):
        sequences(folder, dataclasses.replace(PLAIN, image_size=64, layers=72))


@pytest.mark.parametrize("mirrored", [False, True])
def test_moved_as_if_the_head_and_the_camera_were(mirrored):
    """The slow twin: turn the head about the camera's axis (mirror it), change the focal length, shift the principal
    point, and encode again."""
    model, size, layers = load_face_model(), 48, 52
    head = model.shape(model.sample_identity(np.random.default_rng(2))) @ rotation_from_euler(35, 10).T
    camera = look_at_face(size, 700.0, 3.0 * size)
    closed = solid(head, model)
    angle, factor, shift = np.radians(33.0), 1.12, np.array([2.5, -1.75])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = factor * turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    middle = np.full(2, size / 2)
    motion = Motion(matrix, middle + shift - matrix @ middle, factor, mirrored)
    moved = move_voxels(frame_of(closed.vertices, camera, layers).voxels(closed.vertices), motion, layers)
    triangles = closed.triangles[:, ::-1] if mirrored else closed.triangles
    # y points up in the world: the other sense of turning
    world = (head * [-1, 1, 1] if mirrored else head) @ rotation_from_euler(0, 0, -33).T
    after = camera._replace(focal=camera.focal * factor, centre=tuple(np.array(camera.centre) + shift))
    again = solid(world, model)._replace(triangles=triangles)
    expected = encode(again, after, layers)
    found = fill(moved, triangles, size, layers)
    assert found.sum() > 2000 and overlap(found, expected) > 0.999      # a vertex's last bit may decide a voxel
    seen = after.project(model.landmarks(world))
    flat = camera.project(model.landmarks(head))
    np.testing.assert_allclose(move_pixels(np.stack([flat.x, flat.y], -1), motion),
                               np.stack([seen.x, seen.y], -1), atol=1e-9)


def test_image_and_pixels_move_by_the_same_map():
    rng = np.random.default_rng(0)
    for _ in range(5):
        motion = draw_motion(rng, dataclasses.replace(PLAIN, mirror=0.5, image_size=64))
        position = np.array([30.0, 26.0])
        image = np.zeros((64, 64, 3), np.uint8)
        image[25:27, 29:31] = 200
        moved = move_image(image, motion)[..., 0].astype(float)
        row, column = np.meshgrid(*[np.arange(64) + 0.5] * 2, indexing="ij")
        found = np.array([(moved * column).sum(), (moved * row).sum()]) / moved.sum()
        np.testing.assert_allclose(found, move_pixels(position, motion), atol=0.05)


def test_motions_stay_in_the_papers_range():
    rng = np.random.default_rng(1)
    motions = [draw_motion(rng, dataclasses.replace(PLAIN, image_size=192)) for _ in range(2000)]
    factors = [m.factor for m in motions]
    assert 0.85 <= min(factors) < 0.86 and 1.14 < max(factors) <= 1.15
    assert np.mean([m.mirrored for m in motions]) == pytest.approx(0.2, abs=0.03)
    assert all((np.linalg.det(m.matrix) < 0) == m.mirrored for m in motions)
    np.testing.assert_allclose([abs(np.linalg.det(m.matrix)) for m in motions], np.square(factors))
    centre = np.array([m.matrix @ [96, 96] + m.shift - 96 for m in motions])
    assert 14.5 < np.abs(centre).max() <= 15
    for mirrored in (False, True):          # where the x axis of the image (of the mirrored one) goes
        angle = np.degrees([np.arctan2(*(m.matrix @ [-1 if mirrored else 1, 0])[::-1]) for m in motions
                            if m.mirrored == mirrored])
        assert -45 <= angle.min() < -43.5 and 43.5 < angle.max() <= 45 and abs(angle.mean()) < 4


def test_landmarks_of_a_mirrored_face():
    swap = mirrored_landmarks(load_face_model())
    np.testing.assert_array_equal(swap[swap], np.arange(68))
    assert list(swap[[0, 8, 17, 27, 30, 31, 36, 39, 48, 51, 60]]) == [16, 8, 26, 27, 30, 35, 45, 42, 54, 51, 64]


def test_a_mirrored_image_has_a_mirrored_volume_and_left_landmarks_become_right_ones(folder):
    still = dataclasses.replace(PLAIN, rotation=0, shift=0, scale=(1, 1), gain=(1, 1), mirror=1)
    training = sequences(folder, still)[0]
    subjects, images, _ = training.draw(0, 0)
    x, y = training.batch(0, 0)
    shown, truth = sequences(folder)[1].of(subjects[:, 0], images[:, 0])
    np.testing.assert_allclose(x, shown[:, :, ::-1], atol=1e-6)
    for found, one in zip(y["volume"], truth["volume"]):
        assert overlap(found, one[:, ::-1]) > 0.99 > 0.97 > overlap(found, one)
    swap = mirrored_landmarks(load_face_model())
    np.testing.assert_allclose(y["heat_maps"], truth["heat_maps"][:, :, ::-1][..., swap], atol=1e-4)
    assert np.abs(y["heat_maps"] - truth["heat_maps"][:, :, ::-1]).max() > 0.1


def test_heat_maps_by_hand():
    maps = heat_maps(np.array([[0.5, 0.25], [2.0, 0.5]]), 8, 1.5)
    assert maps.shape == (8, 8, 2) and maps.dtype == np.float32
    np.testing.assert_allclose(maps[2, 5, 0], np.exp(-((5.5 - 4) ** 2 + (2.5 - 2) ** 2) / (2 * 1.5 ** 2)), rtol=1e-5)
    assert maps[..., 1].max() < 1e-4


@pytest.mark.parametrize("change, message", [
    ({"batch_size": 0}, "batch_size must be within 1"), ({"scale": (1.2, 0.9)}, "scale must be low, high"),
    ({"gain": (0.5,)}, "gain must be low, high"), ({"mirror": 1.5}, "mirror must be within 0 to 1"),
    ({"image_size": 33}, "image_size must be a multiple of 4, got 33"), ({"heat_sigma": 0}, "heat_sigma must be")])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        VolumeConfig(**change)
