"""Dataset/fitting/depth_fit.py: subjects of the built-in face rendered as depth, and found again."""
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.fitting.depth_fit import fit_depth
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import umeyama
from Dataset.representations import points
from Dataset.representations.depth import assumed_camera, decode_depth, encode, encode_depth, from_image, to_image
from Dataset.synthesis.scene import pose_vertices

SIZE = 96


def rendered(subject, yaw=12.0, pitch=-6.0):
    """(truth (64 * 64, 3) neutral grid mm, camera, depth (96, 96) of the posed face with an expression)."""
    model, rng = load_face_model(), np.random.default_rng(subject)
    identity, expression = model.sample_identity(rng), model.sample_expression(rng, 0.4)
    vertices = pose_vertices(model.shape(identity, expression), np.array([yaw, pitch, 5, 0, 0, 0.0]))
    camera = look_at_face(SIZE, 700.0, SIZE * 700 / 190)
    depth = encode(Mesh(vertices, model.triangles), camera)
    depth[depth > np.nanmin(depth) + 90] = np.nan           # the face without neck and ears
    return points.decode(points.encode(model.shape(identity), 64, model)), camera, depth


def error(grid, truth):
    return np.linalg.norm(umeyama(grid, truth).apply(grid) - truth, axis=1).mean()


def mean_face():
    model = load_face_model()
    return points.decode(points.encode(model.mean, 64, model))


def test_a_true_map_gives_the_subject():
    truth, camera, depth = rendered(1)
    found = fit_depth(depth, camera, sized=True)
    assert found.size == 1 and found.fit.residual < 0.5
    assert error(found.grid(64), truth) < 0.5 * error(mean_face(), truth)
    assert np.linalg.norm(found.grid(64) - truth, axis=1).mean() < 1.6          # mm, its size is right, too


def test_the_image_of_a_network_gives_the_subject():
    """8 bits, no distance, no focal length: what a network's output holds at best."""
    truth, camera, depth = rendered(5)
    values = from_image(to_image(encode_depth(depth, None, camera.focal)))
    found = fit_depth(decode_depth(values), assumed_camera(SIZE))
    assert 0.85 < found.size < 1.05         # the crop's side is 178 mm at the nose tip, 200 were guessed
    assert error(found.grid(64), truth) < 0.85 * error(mean_face(), truth)


def test_too_little_is_no_depth():
    camera = look_at_face(SIZE, 700.0, 350.0)
    with pytest.raises(ValueError, match="no depth: a face needs at least 200 pixels with a depth, received 0"):
        fit_depth(np.full((SIZE, SIZE), np.nan), camera)
    noise = np.full((SIZE, SIZE), np.nan)
    noise[::4, ::4] = 700
    with pytest.raises(ValueError, match="must have triangles"):
        fit_depth(noise, camera)
