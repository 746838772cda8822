"""This photo's face: what the picture shows is judged, with its expression; what it hides does not count."""
import hashlib

import numpy as np
import pytest

from Datagenerator.source import People, people_of
from Dataset.face_model import load_face_model
from Dataset.renders import RenderOptions
from Dataset.representations.points import encode
from Dataset.shards import make_shards, open_shards
from Dataset.transforms import to_unit_sphere
from Evaluation.people import score_photos

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("photos") / "faces"
    make_shards(out, RenderOptions(people=2, images=2, size=32, seed=5, detect=0, expression=1.0))
    return out


def rows(people, predict):
    table = score_photos(people, predict, 2, "made")
    return {row[0]: row for row in table.rows}


def with_photo(people: People, face) -> tuple:
    """A `predict` that knows which picture it is given, and answers face(p, k)."""
    known = {hashlib.sha256(image.tobytes()).digest(): (p, k) for p in range(len(people.truths))
             for k, image in enumerate(people.images(p))}
    return lambda image: face(*known[hashlib.sha256(image.tobytes()).digest()])


def test_the_truth_has_its_expression_and_its_hidden_side(folder):
    people, shards, model = people_of(folder, 32, SIDE ** 2), open_shards(folder), load_face_model()
    for p, k in ((0, 0), (1, 1)):
        face, seen = people.in_photo(p, k)
        identity, expression = shards.gather("identity", [p])[0], shards.gather("expression", [p], [k])[0]
        wanted = encode(model.shape(identity, expression), SIDE, model).reshape(-1, 3)
        np.testing.assert_allclose(face, wanted, atol=1e-4)
        assert seen.shape == (SIDE ** 2,) and seen.dtype == bool
        visible = shards.gather("visible", [p], [k])[0]
        assert abs(seen.mean() - visible.mean()) < 0.08 and 0 < seen.mean() < 1


def test_a_perfect_face_has_no_error_whatever_is_hidden(folder):
    people = people_of(folder, 32, SIDE ** 2)

    def face(p, k):
        truth, seen = people.in_photo(p, k)
        wrong = truth.copy()
        wrong[~seen] += 40.0                    # mm, where nobody looks
        return to_unit_sphere(wrong)[0]
    found = rows(people, with_photo(people, face))
    assert found["surface_chamfer"][1] < 0.02 and found["chamfer"][1] < 0.01
    assert found["surface_chamfer"][2] > 0.2                        # the mean face


def test_points_without_an_order(folder):
    people = people_of(folder, 32, SIDE ** 2)

    def face(p, k):
        truth, seen = people.in_photo(p, k)
        return truth[seen][::-1][:-1]
    assert rows(people, with_photo(people, face))["surface_chamfer"][1] < 0.05


def test_the_mean_face_is_the_floor(folder):
    people = people_of(folder, 32, SIDE ** 2)
    found = rows(people, lambda image: people.constant)
    assert found["surface_chamfer"][1] == pytest.approx(found["surface_chamfer"][2])
    with pytest.raises(ValueError, match="--images must be 1 to 2"):
        score_photos(people, lambda image: people.constant, 3, "made")
