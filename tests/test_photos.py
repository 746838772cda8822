"""This photo's face: what the image shows is evaluated, with its expression; what it hides does not count."""
import hashlib

import numpy as np
import pytest

from Datagenerator.source import SubjectSet, subject_set
from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import rotation_from_euler, to_unit_sphere
from Dataset.representations.depth import surface_points
from Dataset.representations.points import encode
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Evaluation.metrics.surface import surface_scores
from Evaluation.reports.subjects import photo_batch, score_photos

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("photos") / "faces"
    make_shards(out, RenderOptions(subjects=2, images=2, size=32, seed=5, detect=0, expression=1.0))
    return out


def rows(subjects, predict, landmarks=lambda image: None, **options):
    table = score_photos(subjects, lambda image: (predict(image), landmarks(image), True), 2, "made", **options)
    return {row[0]: row for row in table.rows}


def with_photo(subjects: SubjectSet, face) -> tuple:
    """A `predict` that knows which image it is given, and answers face(p, k)."""
    known = {hashlib.sha256(image.tobytes()).digest(): (p, k) for p in range(len(subjects.targets))
             for k, image in enumerate(subjects.images(p))}
    return lambda image: face(*known[hashlib.sha256(image.tobytes()).digest()])


def test_the_truth_has_its_expression_and_its_hidden_side(folder):
    subjects, shards, model = subject_set(folder, 32, SIDE ** 2), open_shards(folder), load_face_model()
    for p, k in ((0, 0), (1, 1)):
        face, seen = subjects.in_photo(p, k)
        identity, expression = shards.gather("identity", [p])[0], shards.gather("expression", [p], [k])[0]
        wanted = encode(model.shape(identity, expression), SIDE, model).reshape(-1, 3)
        np.testing.assert_allclose(face, wanted, atol=1e-4)
        assert seen.shape == (SIDE ** 2,) and seen.dtype == bool
        visible = shards.gather("visible", [p], [k])[0]
        assert abs(seen.mean() - visible.mean()) < 0.08 and 0 < seen.mean() < 1


def test_a_perfect_face_has_no_error_whatever_is_hidden(folder):
    subjects = subject_set(folder, 32, SIDE ** 2)

    def face(p, k):
        truth, seen = subjects.in_photo(p, k)
        wrong = truth.copy()
        wrong[~seen] += 40.0                    # mm, where nobody looks
        return to_unit_sphere(wrong)[0]
    found = rows(subjects, with_photo(subjects, face))
    assert found["surface_chamfer"][1] < 0.02 and found["chamfer"][1] < 0.01
    assert found["surface_chamfer"][2] > 0.2                        # the mean face


def test_points_without_an_order(folder):
    """They are the camera's, and lie as the head is turned."""
    subjects = subject_set(folder, 32, SIDE ** 2)

    def face(p, k):
        truth, seen = subjects.in_photo(p, k)
        return (truth @ subjects.turned(p, k).T)[seen][::-1][:-1]
    assert rows(subjects, with_photo(subjects, face))["surface_chamfer"][1] < 0.05


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """Images with buffers; two of the four heads are turned by more than 35 degrees."""
    out = tmp_path_factory.mktemp("profiles") / "faces"
    buffers = ("uv", "visible_mask", "depth")
    make_shards(out, RenderOptions(subjects=2, images=2, size=96, seed=2, detect=0, buffers=buffers))
    return out


def test_a_true_depth_map_has_next_to_no_error(profiles):
    """What stands before a face, and where a depth map ends, is nobody's error: not that of a perfect answer."""
    subjects, shards = subject_set(profiles, 96, 64 ** 2), open_shards(profiles)
    assert np.sort(np.abs(shards.gather("pose", [0, 1])[..., 0]).ravel())[-2] > 35
    for p, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        depth, seen, (focal, x, y, distance) = (shards.gather(name, [p], [k])[0] for name in
                                                ("depth", "visible_mask", "camera"))
        camera = look_at_face(96, float(distance), float(focal))._replace(centre=(float(x), float(y)))
        cloud = surface_points(np.where(seen, depth, np.nan), camera, 4000, np.random.default_rng(0))
        predicted, truth, _, (whole,) = photo_batch(subjects, p, k, cloud)
        found = surface_scores(predicted[0], truth[0], whole=whole)
        predicted, truth, _, (whole,) = photo_batch(subjects, p, k, subjects.constant)
        mean = surface_scores(predicted[0], truth[0], whole=whole)
        assert found.forward < 0.12 and found.reverse < 0.35 and found.chamfer < 0.5 * mean.chamfer


def test_shown_points_are_those_whose_pixels_show_them(profiles):
    """Against each point's own pixel: it is seen where the atlas has it there, too."""
    subjects, shards = subject_set(profiles, 96, 64 ** 2), open_shards(profiles)
    for p, k in ((0, 0), (1, 1)):
        uv, seen, camera = (shards.gather(name, [p], [k])[0] for name in ("uv", "visible_mask", "camera"))
        focal, x, y, distance = camera
        face, shown = subjects.in_photo(p, k)
        move = shards.gather("pose", [p], [k])[0][3:]
        camera = look_at_face(96, float(distance), float(focal))._replace(centre=(float(x), float(y)))
        at = camera.project(face @ subjects.turned(p, k).T + move)
        rows, columns = np.clip(at.y.astype(int), 0, 95), np.clip(at.x.astype(int), 0, 95)
        steps = np.linspace(0, 127, 64)
        v, u = np.meshgrid(1 - (steps + 0.5) / 128, (steps + 0.5) / 128, indexing="ij")
        off = np.abs(uv[rows, columns] - np.stack([u.ravel(), v.ravel()], -1)).max(-1)
        true = seen[rows, columns] & (off < 6 / 128)
        assert 0.2 < shown.mean() < 0.95 and (shown == true).mean() > 0.93


def test_the_mean_face_is_the_floor(folder):
    subjects = subject_set(folder, 32, SIDE ** 2)
    found = rows(subjects, lambda image: subjects.constant)
    assert found["surface_chamfer"][1] == pytest.approx(found["surface_chamfer"][2])
    with pytest.raises(ValueError, match="--images must be 1 to 2"):
        score_photos(subjects, lambda image: (subjects.constant, None, True), 3, "made")


def test_missed_faces_are_counted(folder):
    subjects = subject_set(folder, 32, SIDE ** 2)
    table = score_photos(subjects, lambda image: (subjects.constant, None, False), 1, "made", False)
    row, = (row for row in table.rows if row[0] == "no_face")
    assert row[1] == row[4] == 2 and rows(subjects, lambda image: subjects.constant, surface=False)["no_face"][1] == 0


def test_landmarks_lie_where_the_camera_sees_them(folder):
    """The shards' own camera, pose and expression put the model's landmarks where those of `subject_set` are."""
    subjects, shards, model = subject_set(folder, 32, SIDE ** 2), open_shards(folder), load_face_model()
    for p, k in ((0, 0), (1, 1)):
        row = {name: shards.gather(name, [p], [k])[0] for name in ("expression", "pose", "camera", "visible")}
        posed = model.shape(shards.gather("identity", [p])[0], row["expression"]) \
            @ rotation_from_euler(*row["pose"][:3]).T + row["pose"][3:]
        focal, x, y, distance = row["camera"]
        camera = look_at_face(32, distance, focal)._replace(centre=(x, y))
        seen = camera.project(model.landmarks(posed))
        landmarks, shown = subjects.landmarks(p, k)
        np.testing.assert_allclose(landmarks, np.stack([seen.x, seen.y], -1) / 32, atol=1e-4)
        assert shown.shape == (68,) and shown.dtype == bool and abs(shown.mean() - row["visible"].mean()) < 0.25


def test_landmarks_are_scored_beside_their_mean_positions(folder):
    subjects = subject_set(folder, 32, SIDE ** 2)
    truth = {(p, k): subjects.landmarks(p, k)[0] for p in range(2) for k in range(2)}

    def side(p, k):
        width, height = np.ptp(truth[p, k], axis=0)
        return np.sqrt(width * height)
    mean, off = np.mean(list(truth.values()), axis=0), np.array([3.0, 4.0])     # 5 per cent of the side
    said = with_photo(subjects, lambda p, k: truth[p, k] + off / 100 * side(p, k))
    found = rows(subjects, lambda image: subjects.constant, said, surface=False)
    floor = np.mean([100 * np.linalg.norm(mean - true, axis=1).mean() / side(*pk) for pk, true in truth.items()])
    assert found["landmarks"][1:5] == pytest.approx([5.0, floor, 5 / floor, 4], abs=1e-4)
    assert found["landmarks_seen"][1] == pytest.approx(5.0, abs=1e-4)

    def only_hidden_wrong(p, k):
        landmarks, shown = subjects.landmarks(p, k)
        return landmarks + np.where(shown[:, None], 0.0, 0.2)
    found = rows(subjects, lambda image: subjects.constant, with_photo(subjects, only_hidden_wrong), surface=False)
    assert found["landmarks_seen"][1] == 0 < found["landmarks"][1]
    sees_one = with_photo(subjects, lambda p, k: truth[p, k] if (p, k) == (0, 1) else None)
    found = rows(subjects, lambda image: subjects.constant, sees_one, surface=False)
    wanted = sum(100 * np.linalg.norm(mean - truth[pk], axis=1).mean() / side(*pk) for pk in truth if pk != (0, 1)) / 4
    assert found["landmarks"][1] == pytest.approx(wanted) and found["landmarks"][4] == 1
    assert "replaces the 3 in which the model finds no face" in found["landmarks"][5]
    assert "landmarks" not in rows(subjects, lambda image: subjects.constant, surface=False)


def test_an_answer_that_is_not_finite_is_skipped_and_its_landmarks_count_as_none(folder):
    subjects = subject_set(folder, 32, SIDE ** 2)
    points = with_photo(subjects, lambda p, k: subjects.constant * (np.nan if (p, k) == (1, 0) else 1))
    marks = with_photo(subjects, lambda p, k: subjects.landmarks(p, k)[0] * (np.nan if (p, k) == (1, 0) else 1))
    found = rows(subjects, points, marks, surface=False)
    assert found["chamfer"][4] == 3 and "1 skipped" in found["chamfer"][5] and found["chamfer"][1] > 0
    assert found["landmarks"][4] == 3 and "replaces the 1 in which" in found["landmarks"][5]


def test_milliseconds_are_the_median(folder):
    subjects, ticks = subject_set(folder, 32, SIDE ** 2), iter([0, 0.9, 1, 1.01, 2, 2.02, 3, 3.04])
    found = rows(subjects, lambda image: subjects.constant, surface=False, clock=lambda: next(ticks))
    assert found["ms_per_photo"][1] == pytest.approx(30) and found["ms_per_photo"][4] == 4
