"""Equation (2): pinned numbers, and that alignment takes away what it should and nothing else."""
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.points import encode
from Evaluation.metrics.distances import interocular_nme
from Evaluation.metrics.volume_nme import OUTER_CORNERS, volume_nme


def test_pinned():
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    predicted = np.array([[0.0, 0, 0.3], [1, 0, 0], [0, 2, 4], [9, 9, 9]])
    eyes = np.array([[0.0, 0, 0], [0, 0, 4]])
    # 0.3, 0, and of the third the nearest is the first: (4 + 0.09)^(1/2)
    assert interocular_nme(predicted, truth, eyes) == pytest.approx((0.3 + 0 + np.sqrt(4.09)) / 3 / 4)
    assert interocular_nme(truth[::-1], truth, eyes) == 0
    for wrong in (eyes[:1], np.zeros((2, 3)), eyes * np.nan):
        with pytest.raises(ValueError, match="eyes: want two different points"):
            interocular_nme(predicted, truth, wrong)
    with pytest.raises(ValueError, match="at least one point"):
        interocular_nme(predicted, truth[:0], eyes)


def face(seed: int):
    model, rng = load_face_model(), np.random.default_rng(seed)
    vertices = model.shape(0.5 * model.sample_identity(rng))
    return encode(vertices, 32, model).reshape(-1, 3), model.landmarks(vertices)[list(OUTER_CORNERS)]


def test_a_similarity_is_taken_away():
    truth, eyes = face(0)
    moved = 0.37 * truth @ rotation_from_euler(8, -5, 6).T + [300, -20, 5]
    assert volume_nme(moved, truth, eyes) < 1e-3
    more = np.concatenate([moved, moved.mean(0) + [[0, 0, -90]] * 40])       # behind: nothing of the face
    assert volume_nme(more, truth, eyes) < 0.01
    assert volume_nme(1.2 * truth, truth, eyes, with_scale=False) > 0.05
    assert np.linalg.norm(eyes[0] - eyes[1]) == pytest.approx(93, abs=12)      # mm


def test_what_is_missing_and_what_differs_costs():
    truth, eyes = face(0)
    other = face(1)[0]
    half = truth[truth[:, 0] > 0]
    assert 0.01 < volume_nme(other, truth, eyes) < 0.1
    assert volume_nme(half, truth, eyes, with_scale=False) > 0.1
    for wrong in (truth[:0], truth * np.nan, np.zeros((5, 3))):
        with pytest.raises(ValueError):
            volume_nme(wrong, truth, eyes)
