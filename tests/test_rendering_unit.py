"""PNCC and normals: what they mean, a ray caster as oracle, where they lie."""
import numpy as np
import pytest

from Dataset.face_model.model import BUILT_IN, VARIABLE, load_face_model, use_face_model
from Dataset.geometry.camera import FLIP, Camera
from Dataset.geometry.normals import normalise, vertex_normals
from Dataset.representations import coefficients as c
from Dataset.representations.pncc import built_in_unit, mean_code
from tests.rays import cast, interpolate

MODEL = load_face_model()


def face_at(*pose: float, seed: int | None = None) -> np.ndarray:
    face = c.mean_face(np.array(pose))
    if seed is not None:
        face[c.IDENTITY] = MODEL.sample_identity(np.random.default_rng(seed))
    return face


def test_pncc_of_the_mean_face_is_its_position_in_its_box():
    code = mean_code(MODEL)
    assert code.shape == (4881, 3) and code.min() == 0 and code.max() == 1
    nose, ear = MODEL.landmarks(code)[30], code[np.argmin(MODEL.mean[:, 0])]
    # the tip of the nose: in the middle, below it, foremost; the box is 222.2 mm high from -114.7 mm
    np.testing.assert_allclose(nose, [0.5, 0.345, 0.998], atol=1e-3)
    np.testing.assert_allclose(nose[1] * 222.198 - 114.650, MODEL.landmarks(MODEL.mean)[30, 1], atol=2e-2)
    assert ear[0] == 0
    np.testing.assert_allclose(code[MODEL.mirror][:, 0], 1 - code[:, 0], atol=1e-3)


def test_the_codes_are_those_of_positions_whoever_the_subject_is():
    a, b = (built_in_unit()(face_at(0, 0, 0, 0, 0, -0.1, seed=s), 64) for s in (None, 1))
    assert np.abs(a[32, 32, :3] - b[32, 32, :3]).max() < 0.1 and a[32, 32, :3].min() > 0


def test_normals_look_where_the_head_looks():
    for yaw, expected in ((0, (0, 0, 1)), (np.radians(40), (np.sin(np.radians(40)), 0, np.cos(np.radians(40))))):
        face = face_at(yaw, 0, 0, 0, 0, -0.1)
        drawn = built_in_unit()(face, 96)
        # between the brows the mean face looks straight ahead
        x, y = (c.project(face, "landmarks", 96)[[21, 22]].mean(0)).astype(int)
        normal = drawn[y, x, 3:] * 2 - 1
        assert np.degrees(np.arccos(normal @ expected / np.linalg.norm(normal))) < 14


@pytest.mark.parametrize("subdivided", [False, True])
def test_equals_the_ray_caster_from_far_away(subdivided):
    size, far, face = 48, 1e5, face_at(0.5, 0.2, -0.1, 0.1, 0.05, -0.1, seed=5)
    unit = built_in_unit(subdivided)
    drawn = unit(face, size)
    pose, shape = c.decode_pose(face[c.POSE], size), c.vertices(face)
    shape = (MODEL.subdivide(shape) if subdivided else shape) @ pose.rotation.T
    camera = Camera(size, size, far * pose.scale, tuple(pose.translation), FLIP.copy(), np.array([0, 0, far]))
    triangles = unit._triangles.T
    hits = cast(shape, triangles, camera)
    normals = normalise(vertex_normals(shape, triangles))
    truth = np.nan_to_num(interpolate(hits, triangles, np.concatenate([unit.code.T, 0.5 + 0.5 * normals], 1)))
    off = np.abs(drawn - truth).max(-1)
    # a caster sees both sides; edges may fall to either side of a pixel's centre
    assert (off > 0.02).mean() < 0.03 and np.median(off) < 1e-3


def test_many_faces_are_the_single_ones_and_fill_what_is_given():
    faces = np.stack([face_at(0.1 * k, 0, 0, 0, 0, -0.1, seed=k) for k in range(3)])
    out = np.full((3, 32, 32, 9), 7, np.float32)
    built_in_unit().many(faces, 32, out=out[..., 3:])
    assert (out[..., :3] == 7).all()
    for face, drawn in zip(faces, out[..., 3:]):
        np.testing.assert_allclose(drawn, built_in_unit()(face, 32), atol=1e-3)
    assert -1e-6 < out[..., 3:].min() and out[..., 3:].max() < 1 + 1e-6


def test_a_head_beyond_the_image_draws_nothing():
    assert not built_in_unit()(face_at(0, 0, 0, -1.5, 2, 2), 32).any()


def test_a_head_as_near_as_can_be_is_drawn():
    assert built_in_unit()(face_at(0.3, 0, 0, 99, 0, 0), 200)[..., :3].any(-1).mean() > 0.5


def test_bad_coefficients_are_refused():
    with pytest.raises(ValueError, match="finite"):
        built_in_unit()(np.full(290, np.inf), 32)


def test_the_unit_is_of_the_model_in_use(tmp_path, monkeypatch):
    """A face model that is chosen later does not get the unit of the one before."""
    first, face = built_in_unit(), c.mean_face()
    assert built_in_unit() is first
    arrays = dict(np.load(BUILT_IN))
    arrays["mean"] = arrays["mean"] * np.float32(1.2)
    np.savez(tmp_path / "other.npz", **arrays)
    monkeypatch.setenv(VARIABLE, "")
    use_face_model(tmp_path / "other.npz")
    other = built_in_unit()
    assert other is not first and other.model is load_face_model()
    assert np.count_nonzero(other(face, 64)) > 1.3 * np.count_nonzero(first(face, 64))
