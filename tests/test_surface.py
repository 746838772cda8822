"""Evaluation/metrics/surface.py: known answers, and agreement with the shared scorer where that is present."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from Dataset.geometry.transforms import Similarity, rotation_from_euler
from Evaluation.metrics.surface import Crop, all_rotations, surface_distances, surface_scores
from tests.clouds import face

SCORER = Path(__file__).resolve().parents[2] / "shared" / "score.py"
MOVED = Similarity(0.37, rotation_from_euler(22, -8, 5), np.array([4.0, -1.0, 2.0]))


def test_two_samplings_of_one_surface_are_near_0():
    a, b = face(3000, 1), face(2500, 2)
    scores = surface_scores(MOVED.apply(a), b)
    assert scores.chamfer < 0.2 < scores.nearest        # % of the diagonal
    assert scores.chamfer == pytest.approx((scores.forward + scores.reverse) / 2)
    assert scores.transform.scale == pytest.approx(1 / 0.37, rel=0.01) and scores.kept == 1


def test_distance_to_a_plane():
    """Above the middle of a dense plane: the height; beyond its boundary: what exceeds the spacing counts too."""
    line = np.linspace(0, 1, 21)
    plane = np.stack([a.ravel() for a in np.meshgrid(line, line, [0.0])], axis=1)
    surface, nearest = surface_distances(np.array([[0.512, 0.488, 0.2], [1.5, 0.5, 0.0]]), plane)
    assert surface[0] == pytest.approx(0.2) and nearest[0] > 0.2
    assert 0.35 < surface[1] < 0.5 == pytest.approx(nearest[1])


def test_a_missing_half_costs_in_reverse():
    truth = face(2500, 1)
    half = face(2500, 2)
    half = half[half[:, 0] > 0]
    scores = surface_scores(half, truth)
    assert scores.reverse > 2 and scores.chamfer > 1


def test_any_rotation_is_found_when_asked():
    a, b = face(1500, 1), face(1500, 2)
    turned = a @ rotation_from_euler(150, 40, 100).T
    assert surface_scores(turned, b, starts="all").chamfer < 0.3
    assert surface_scores(turned, b, starts="upright").chamfer > 0.4
    rotations = all_rotations()
    assert rotations.shape == (348, 3, 3) and np.allclose(np.linalg.det(rotations), 1)


def test_beyond_the_part_that_counts_right_is_right():
    """The upper half of a face must be found; a prediction of all of it, or of a little more, errs nowhere."""
    a, b = face(), face()
    part = b[b[:, 1] > np.quantile(b[:, 1], 0.4)]
    more = a[a[:, 1] > np.quantile(a[:, 1], 0.25)]
    found = surface_scores(MOVED.apply(more), part, whole=b)
    assert found.chamfer < 0.1 < 0.3 < surface_scores(MOVED.apply(more), part).forward
    less = a[a[:, 1] > np.quantile(a[:, 1], 0.6)]
    assert surface_scores(MOVED.apply(less), part, whole=b).reverse > 0.5      # what must be found is missing
    with pytest.raises(ValueError, match="the whole ground truth"):
        surface_scores(a, part, whole=np.zeros((4, 2)))


def test_outside_the_crop_does_not_count_forward():
    truth = face(3000, 1)
    truth = truth[truth[:, 1] > -0.3]
    crop = Crop(truth[truth[:, 2].argmax()], 5.0, (truth[:, 1].min() - truth[truth[:, 2].argmax()][1], 5.0))
    whole = face(3000, 2)
    assert surface_scores(whole, truth, crop).forward < 0.3 < surface_scores(whole, truth).forward
    assert 0.5 < surface_scores(whole, truth, crop).kept < 0.8


def test_one_point_and_two_points():
    truth = face(800, 1)
    assert surface_scores(np.zeros((50, 3)) + 0.1, truth).reverse > 10
    assert np.isfinite(surface_scores(np.array([[0, 0, 0], [0.5, 0, 0]]), truth).chamfer)


def test_bad_input():
    with pytest.raises(ValueError, match="starts: want one of upright, all, got 'some'"):
        surface_scores(face(20), face(20), starts="some")
    with pytest.raises(ValueError, match="ground truth: want a cloud with an extent"):
        surface_scores(face(20), np.ones((20, 3)))
    with pytest.raises(ValueError, match="prediction: want finite"):
        surface_scores(np.full((20, 3), np.nan), face(20))


def load_scorer():
    spec = importlib.util.spec_from_file_location("shared_score", SCORER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_ply(path, points):
    lines = "\n".join(" ".join(f"{v:.9g}" for v in p) for p in points)
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex {len(points)}\nproperty double x\nproperty double y\n"
                    f"property double z\nend_header\n{lines}\n")


@pytest.mark.parametrize("case", ["another face", "noisy", "cropped", "more points"])
def test_agrees_with_the_shared_scorer(case, tmp_path):
    if not SCORER.exists():
        pytest.skip("the shared scorer is not on this machine")
    truth = face(1800, 1)
    predicted = face(4000 if case == "more points" else 1500, 2, nose=0.25, eyes=0.05, skew=0.05)
    if case == "noisy":
        predicted = predicted + np.random.default_rng(0).normal(0, 0.02, predicted.shape)
    nose, crop = truth[truth[:, 2].argmax()], None
    limits, radius = (-1e6, 1e6), 1e6
    if case == "cropped":
        limits, radius = (-0.5, 0.6), 0.9
        crop = Crop(nose, radius, limits)
        truth = truth[crop.inside(truth)]
    predicted = MOVED.apply(predicted)
    write_ply(tmp_path / "p.ply", predicted)
    write_ply(tmp_path / "g.ply", truth)
    theirs = load_scorer().shape((0, str(tmp_path / "p.ply"), str(tmp_path / "g.ply"), nose, radius, limits))[1]
    ours = surface_scores(predicted, truth, crop)
    for name, key in (("chamfer", "CD"), ("forward", "fwd"), ("reverse", "rev"), ("nearest", "NN")):
        assert getattr(ours, name) == pytest.approx(theirs[key], rel=0.02), name
