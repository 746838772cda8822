"""Network/dense_face.py and what begins with it: turned faces and rays against other code, masks and slabs by hand."""
from functools import partial

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from Dataset.camera import Camera
from Dataset.face_model import load_face_model
from Dataset.mesh import Mesh
from Dataset.renders import coarse_grid
from Dataset.representations import points
from Dataset.representations.coefficients import POSE, mean_face, project
from Dataset.representations.depth import decode_depth, encode, encode_depth
from Dataset.transforms import rotation_from_euler, to_unit_sphere
from Network.coarse import CameraPose
from Network.correspondence import FaceFrame
from Network.dense_face import (CONTROL, NO_FACE, SIDE, DenseFace, Doubted, Evidence, Filled, FirstHit, HardMask, Rays,
                                on_face, third_row)
from Network.grid import interpolation
from Network.pix2pix import AsValues, OnFace
from Network.places import unit_places
from Network.solve_dense import in_head_frame
from Network.vrn import Middled, Slab


def posed(count: int, seed: int = 0):
    """The mean face's places mm (256, 3), poses (count, 6), where they are seen (count, 256, 2)."""
    rng, model = np.random.default_rng(seed), load_face_model()
    poses = rng.uniform([-1, -.5, -.5, -.3, -.1, -.1], [1, .5, .5, .3, .1, .1], (count, 6)).astype(np.float32)
    seen = np.stack([project(mean_face(pose)) for pose in poses]).astype(np.float32)
    return coarse_grid(model) @ model.mean, poses, seen


def framed(places: np.ndarray, seen: np.ndarray):
    frame, nothing = FaceFrame(), np.zeros((*seen.shape[:2], 2), np.float32)
    frame(seen, nothing[..., 0], nothing)
    frame.set_template(to_unit_sphere(places)[0])
    return frame(seen, nothing[..., 0], nothing)


def test_the_third_row_is_the_cross_product():
    rows = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(third_row(rows.reshape(4, 6)), np.cross(rows[:, 0], rows[:, 1]), atol=1e-6)


def test_the_grid_is_the_turned_face():
    """The mean face, and one that differs from it by a known direction, where the camera of `project` sees them."""
    model = load_face_model()
    grid = points.encode(model.mean, SIDE, model).reshape(-1, 3)
    places, poses, seen = posed(5)
    frame, layer, code = framed(places, seen), DenseFace(), np.zeros((5, 3), np.float32)
    layer(frame, seen, code)
    layer.set_template(points.encode(model.mean, 128, model).reshape(-1, 3))
    found = np.asarray(layer(frame, seen, code)).reshape(5, -1, 3)

    def wanted(face: np.ndarray, pose: np.ndarray) -> np.ndarray:
        turned = face @ rotation_from_euler(*np.degrees(pose[:3])).T
        middle = (places @ rotation_from_euler(*np.degrees(pose[:3])).T)[:, 2].mean()
        scale = np.exp(pose[3]) / 200
        return np.stack([scale * turned[:, 0], -scale * turned[:, 1], scale * (turned[:, 2] - middle)], -1)
    for pose, face, lies in zip(poses, found, seen):
        true = wanted(grid, pose)
        true[:, :2] += lies.mean(0) - wanted(places, pose).mean(0)[:2]
        np.testing.assert_allclose(face, true, atol=5e-4)
    radius = unit_places(places)[2]
    directions = np.zeros((3, CONTROL, CONTROL, 3), np.float32)
    directions[1, 10, 20] = [0.0, 0.3, 0.1]
    layer.directions.assign(directions.reshape(3, -1))
    code[:, 1] = 0.5
    changed = np.asarray(layer(frame, seen, code)).reshape(5, -1, 3) - found
    finer = interpolation(CONTROL, SIDE)
    offset = radius * 0.5 * np.einsum("ir,prsc,js->pijc", finer, directions[1:2], finer).reshape(-1, 3)
    for pose, by in zip(poses, changed):
        turned = offset @ rotation_from_euler(*np.degrees(pose[:3])).T * np.exp(pose[3]) / 200 * [1, -1, 1]
        np.testing.assert_allclose(by, turned, atol=2e-5)


def test_what_is_seen_is_brought_back_into_the_head_frame():
    places, poses, seen = posed(4, 2)
    frame, layer, code = framed(places, seen), DenseFace(), np.zeros((4, 3), np.float32)
    layer(frame, seen, code)
    layer.set_template(places)
    grids = np.asarray(layer(frame, seen, code)).reshape(4, -1, 3) * [1, -1, 1]
    found = in_head_frame(grids, np.asarray(frame)[:, 0], seen.mean(1))
    np.testing.assert_allclose(found, np.tile(np.asarray(layer.template), (4, 1, 1)), atol=2e-4)


def lying(seed: int, side: int = 48, yaw: float = 0.0):
    """A face's grid as it lies (1, SIDE, SIDE, 3), and where to begin (1, side, side, 2)."""
    rng, model = np.random.default_rng(seed), load_face_model()
    face = points.encode(model.shape(model.sample_identity(rng)), SIDE, model).reshape(-1, 3)
    turned = face @ rotation_from_euler(*rng.uniform(-25, 25, 3) + [yaw, 0, 0]).T / 200
    grid = np.stack([turned[:, 0] + 0.5, 0.5 - turned[:, 1], turned[:, 2]], -1).astype(np.float32)
    grid = grid.reshape(1, SIDE, SIDE, 3)
    return grid, np.asarray(FirstHit(side)(grid))


def test_rays_see_what_a_ray_caster_sees():
    """Open3D's of the same triangles, through a camera so far away that it is all but orthographic."""
    far, side = 1e3, 48          # farther, float32 knows the depths less well
    camera = Camera(side, side, side * far, (side / 2, side / 2), np.diag([1.0, 1.0, 1.0]), np.array([0, 0, far]))
    for seed, yaw in enumerate((0, 20, 0, 60, -70)):
        grid, start = lying(seed, side, yaw)
        found = np.asarray(Rays()(grid, start))[0]
        world = grid.reshape(-1, 3) * [1, 1, -1] - [0.5, 0.5, 0]        # x right, y down, z away from the camera
        true = far - encode(Mesh(world.astype(float), points.grid_triangles(SIDE)), camera)
        on = np.isfinite(true)
        assert on.sum() > 400
        errors = np.abs(found[..., 0] - true)[on]
        assert np.median(errors) < 2e-4 and np.quantile(errors, 0.9) < 2e-3     # of 128 px, a fortieth; a quarter
        closed = np.asarray(Filled()(found[None]))
        for some, least in ((found[None], 0.92), (closed, 0.93)):
            mask = np.asarray(on_face(some[..., 1:]))[0, ..., 0] > 0            # half a pixel wider
            assert (mask & on).sum() / (mask | on).sum() > least


def test_of_two_sheets_the_nearer_is_hit_and_of_a_ball_the_front():
    columns, rows = np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64))
    folded = np.stack([2 * columns, rows, 0 * rows], -1)       # its left half lies everywhere, and before it the right
    folded[:, 32:] = np.stack([0.3 + 0.8 * (columns[:, 32:] - 0.5), rows[:, 32:], 0 * rows[:, 32:] + 0.4], -1)
    at = np.asarray(FirstHit(8)(folded[None].astype(np.float32)))[0]
    assert (at[1:7, 3:5, 0] > 31.5).all() and (at[1:7, 1, 0] < 32).all() and (at[1:7, 6, 0] < 32).all()
    ball = np.stack([0.5 + 0.4 * np.sin(2 * np.pi * columns) * np.sin(np.pi * rows), 0.5 - 0.4 * np.cos(np.pi * rows),
                     0.4 * np.cos(2 * np.pi * columns) * np.sin(np.pi * rows)], -1)      # once around
    at = np.asarray(FirstHit(8)(ball[None].astype(np.float32)))[0]
    around = at[2:6, 2:6, 0] / 63
    assert ((around < 0.26) | (around > 0.74)).all()        # a quarter to either side of what faces the viewer


def test_holes_of_two_pixels_are_closed_and_rims_stay():
    seen = np.zeros((1, 12, 12, 2), np.float32)
    seen[0, 9:, :, 1] = 0.3
    seen[0, 4:6, 4:6, 1] = 0.1
    seen[0, 1:4, 8:11, 1] = 0.2
    found = np.asarray(Filled()(seen))[0, ..., 1]
    assert not found[4:6, 4:6].any() and (found[1:4, 8:11] == np.float32(0.2)).all()        # three are too many
    assert not found[:9, :8].any() and (found[9:] == np.float32(0.3)).all()


def test_the_gradient_of_rays_is_the_difference(monkeypatch):
    """Without the damping, which makes it less."""
    monkeypatch.setattr("Network.dense_face._FLATTER", 1e-8)
    tf = pytest.importorskip("tensorflow")
    grid, start = lying(3, 24)
    layer, rng = Rays(steps=6), np.random.default_rng(0)
    found = np.asarray(layer(grid, start))[0]
    smooth = np.abs(found[..., 0] - cv2.blur(found[..., 0], (3, 3))) < 0.01         # no fold, across which places jump
    weights = (rng.uniform(size=(1, 24, 24)) * (found[..., 1] < 1e-5) * smooth).astype(np.float32)
    change = np.cumsum(np.cumsum(rng.normal(size=grid.shape), 1), 2).astype(np.float32)    # smooth
    change *= 2e-4 / np.abs(change).max()

    def total(by: float) -> float:
        return float(np.sum(weights * np.asarray(layer((grid + by * change).astype(np.float32), start))[..., 0],
                            dtype=np.float64))
    posed_grid = tf.constant(grid)
    with tf.GradientTape() as tape:
        tape.watch(posed_grid)
        value = tf.reduce_sum(weights * layer(posed_grid, start)[..., 0])
    slopes = np.asarray(tape.gradient(value, posed_grid), np.float64)
    held = slopes * [0, 0, 1]
    slope = float(np.sum(slopes * change))
    assert slope == pytest.approx(total(0.5) - total(-0.5), rel=0.02)
    assert slope != pytest.approx(float(np.sum(held * change)), rel=0.3)    # what places that cannot move would give


def test_places_that_are_nowhere_are_no_face():
    seen = np.random.default_rng(0).uniform(0, 0.1, (2, 4, 4, 2)).astype(np.float32)
    doubt = np.stack([np.full(5, NO_FACE - 0.1), np.full(5, NO_FACE + 0.1)]).astype(np.float32)
    found = np.asarray(Doubted()(seen, doubt))
    np.testing.assert_array_equal(found[0], seen[0])
    np.testing.assert_array_equal(found[1], seen[1] + np.array([0, 1], np.float32))
    assert (np.asarray(on_face(found[1:, ..., 1:])) == -8).all()


def test_evidence_is_the_offsets_and_the_camera():
    frame = np.random.default_rng(0).normal(size=(2, 5, 20)).astype(np.float32)
    found = np.asarray(Evidence()(frame))
    assert found.shape == (2, 22)
    np.testing.assert_array_equal(found[:, :15].reshape(2, 5, 3), frame[..., 5:8])
    np.testing.assert_array_equal(found[:, 15:], frame[:, 0, 9:16])


def test_the_cameras_pose_is_the_true_one():
    places, poses, seen = posed(6, 1)
    frame, layer = framed(places, seen), CameraPose()
    layer(frame, seen)
    layer.set_template(places)
    found = np.asarray(layer(frame, seen))
    np.testing.assert_allclose(found[:, POSE], poses, atol=1e-4)
    assert not found[:, :POSE.start].any()


def test_a_hard_mask_learns_as_a_soft_one():
    tf = pytest.importorskip("tensorflow")
    logits = tf.constant([-3.0, -0.1, 0.0, 0.1, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = HardMask()(logits)
    assert np.asarray(found).tolist() == [0, 0, 0, 1, 1]
    share = np.asarray(ops.sigmoid(logits))
    np.testing.assert_allclose(tape.gradient(found, logits), share * (1 - share), rtol=1e-5)


def test_depths_become_the_values_of_a_depth_map():
    """As `encode_depth` has them: a plane that falls back by a quarter of the crop from the left to the right."""
    depths = np.tile(np.linspace(0, -0.25, 64), (64, 1)).astype(np.float32)
    grid = np.zeros((1, 64, 64, 3), np.float32)
    grid[0, ..., 2] = depths
    values = np.array(AsValues()(grid, np.stack([depths, 0 * depths], -1)[None]))
    near, focal = 800.0, 64 * 4.0
    true = (near - depths * AsValues.NEARER * near / 4).astype(np.float32)       # a side is near / 4 mm
    np.testing.assert_allclose(values[0, ..., 0], encode_depth(true, focal=focal)[..., 0], atol=1e-5)
    mask = np.full((1, 64, 64, 1), 5.0, np.float32)
    mask[:, :, :8] = -8.0
    values[:, 5, :, 1] = 1.0        # far beyond the face
    mask[:, 5] = 7.9
    depth = np.asarray(OnFace()(mask, values))[0]
    assert (depth[:, :8] == -1).all() and np.isnan(decode_depth(depth)[:, :8]).all() and (depth[5] == -1).all()
    np.testing.assert_allclose(depth[6, 8:, 0], np.maximum(values[0, 6, 8:, 0], -1), atol=1e-6)


def test_a_slab_lies_between_its_front_and_its_back():
    surface = np.zeros((1, 10, 10, 2), np.float32)
    surface[0, 0, 0, 0] = 0.2                       # two layers nearer to the viewer
    surface[0, 5, 5, 1] = 0.15                      # a pixel and a half beyond the face
    thicker = np.zeros((1, 10, 10, 1), np.float32)
    thicker[0, 2, 2] = 1.0
    logits = np.asarray(Slab(20)(thicker, surface))
    assert logits.shape == (1, 10, 10, 20)
    inside = logits[0] > 0
    thick = 10 * Slab.THICK

    def layers(front: float, back: float) -> list[bool]:
        return [front < k + 0.5 < back for k in range(20)]
    assert inside[4, 4].tolist() == layers(10, 10 + thick)
    assert inside[0, 0].tolist() == layers(8, 8 + thick)
    assert inside[2, 2].tolist() == layers(10, 11 + thick)
    assert not inside[5, 5].any() and logits[0, 5, 5].max() == -4
    grid = np.zeros((1, 2, 2, 3), np.float32)
    grid[..., 2] = [[1.0, 2.0], [2.0, 4.0]]
    seen = np.array([[[[3.0, 0.1]]]], np.float32)
    np.testing.assert_allclose(Middled(2.0)(grid, seen)[0, 0, 0], [0.5, 0.1])
    np.testing.assert_allclose(Middled(0.75)(grid, seen)[0, 0, 0], [-0.25, 0.1])        # the nearest is at 0.75 then


@pytest.mark.parametrize("layer, shapes", [
    (Evidence, [(256, 20)]), (DenseFace, [(256, 20), (256, 2), (5,)]), (Rays, [(9, 9, 3), (8, 8, 2)]),
    (Doubted, [(8, 8, 2), (5,)]), (partial(FirstHit, 6), [(9, 9, 3)]), (Filled, [(8, 8, 2)]),
    (HardMask, [(4,)]), (AsValues, [(9, 9, 3), (8, 8, 2)]), (OnFace, [(8, 8, 1), (8, 8, 2)]),
    (partial(Middled, 0.5), [(9, 9, 3), (8, 8, 2)]), (partial(Slab, 10), [(8, 8, 1), (8, 8, 2)]),
    (CameraPose, [(256, 20), (256, 2)])])
def test_layers_survive_a_file(tmp_path, layer, shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer()(*inputs))
    arrays = [np.random.default_rng(i).normal(size=(2, *shape)).astype(np.float32) for i, shape in enumerate(shapes)]
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", compile=False)
    found = np.asarray(model(arrays))
    assert found.shape == model.compute_output_shape([a.shape for a in arrays] if len(arrays) > 1 else arrays[0].shape)
    np.testing.assert_array_equal(found, again(arrays))
