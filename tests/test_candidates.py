"""Where a face may be, and which look to believe: order, laziness, covering, and the choice, without any network."""
import numpy as np
import pytest

from Dataset.detection import candidates as module
from Dataset.detection.candidates import COARSE, ESTIMATE, FINE, Candidate, candidates, find, guesses
from Dataset.detection.cascades import Detection
from Dataset.io.inputs import NamedImage
from Network.inference.photos import Crop, NoFace, Scored, best_crop, crop_faces
from Network.inference.registry import PREDICTORS, predictor_class

PICTURE = NamedImage("p.png", np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8))
FIRST, SECOND, WEAK = (Detection(box, score, name) for box, score, name in (
    ((200, 20, 60, 60), 30.0, "frontal"), ((20, 150, 40, 40), 25.0, "frontal"), ((100, 100, 30, 30), 4.0, "alt2 +40")))


@pytest.fixture
def detector(monkeypatch):
    """A detector that finds FIRST and SECOND at once, WEAK with every stage; what it was asked is kept."""
    asked = []

    def detect_faces(image, max_side=640, every_stage=False, stages=None):
        asked.append("every" if every_stage else "quick" if max_side == 320 else "chain")
        return [FIRST, SECOND, WEAK] if every_stage else [FIRST, SECOND]
    monkeypatch.setattr(module, "detect_faces", detect_faces)
    return asked


@pytest.mark.parametrize("shape", [(240, 320), (300, 300), (500, 130), (40, 2000)])
def test_guesses_cover_the_picture(shape):
    """Each place of the image (of one too long, of its middle) lies well within a square of each size that reaches
    there, and no square lies outside."""
    shorter = min(shape)
    part = [min(length, 4 * shorter) for length in shape]
    y, x = (np.arange(length) + 0.5 + (whole - length) // 2 for length, whole in zip(part, shape))
    for sides in (COARSE[:1], COARSE[1:], FINE):
        squares = np.array([one.box for one in guesses(shape, sides)], float)
        side = sides[0] * shorter
        np.testing.assert_allclose(squares[:, 2:], side, atol=1)
        assert (squares[:, :2] >= -1).all() and (squares[:, :2] + side <= np.array(shape[::-1]) + 1).all()
        for places, axis, length in ((x, 0, part[1]), (y, 1, part[0])):
            middles = np.unique(squares[:, axis] + side / 2)
            off = np.abs(places[:, None] - middles).min(1) / side
            inside = np.minimum(places - places[0], places[-1] - places) >= 0.1 * side      # a face is not all boundary
            assert off[inside].max() <= 0.45
    assert {one.name for one in guesses(shape, COARSE)} == {ESTIMATE}
    first = guesses(shape, COARSE[1:])[0].box
    assert np.abs(np.add(first[:2], np.divide(first[2:], 2)) - np.array(shape[::-1]) / 2).max() <= 0.25 * shorter


def test_candidates_come_in_order_and_none_twice(detector):
    found = find(PICTURE.image)
    assert detector == ["quick"]
    places = candidates(PICTURE.image, found, 1.5)
    assert next(places) == Candidate((185, 5, 90, 90), "frontal") and next(places).box == (10, 140, 60, 60)
    coarse = [next(places) for _ in range(2)]
    assert [one.name for one in coarse] == [ESTIMATE] * 2 and coarse[0].box[2] == 240 and detector == ["quick"]
    names = [one.name for one in places]
    assert names.count("alt2 +40") == 1 and "frontal" not in names and detector == ["quick", "every"]
    assert names.index("alt2 +40") < len(names) - 1 - names[::-1].index(ESTIMATE)      # before the fine squares


def test_the_whole_chain_and_the_other_crops_wait_until_they_are_asked_for(detector):
    crop, = crop_faces(PICTURE, 16, margin=1.5)
    assert crop.box == (185, 5, 90, 90) and crop.sure and detector == ["quick"]
    first, second = list(crop.others()), list(crop.others())
    assert [one.box for one in first] == [one.box for one in second] and first[0].box == (10, 140, 60, 60)
    assert first[0].image.shape == (16, 16, 3) and not any(one.sure for one in first if one.pass_name == ESTIMATE)


def test_a_box_by_hand_and_every_face_have_no_others(detector):
    assert crop_faces(PICTURE, 16, box=(10, 10, 50, 50))[0].others is None
    crops = crop_faces(PICTURE, 16, every_face=True)
    assert [(crop.others, crop.sure) for crop in crops] == [(None, True), (None, True), (None, False)]
    assert detector == ["every"]


def test_only_networks_that_can_tell_are_given_guesses(monkeypatch):
    """The others have the whole chain of the detector instead."""
    asked = []
    monkeypatch.setattr(module, "detect_faces", lambda *_, **more: asked.append(more) or [])
    assert {name for name in PREDICTORS if predictor_class(name).finds_faces_itself} == {"compact", "coarse"}
    for scores in (True, False):
        crops = crop_faces(PICTURE, 16, margin=1.2, estimate=scores)
        assert len(crops) == scores and all(crop.pass_name == ESTIMATE and not crop.sure for crop in crops)
        assert len(asked) == 2 - scores
        asked.clear()
    assert crop_faces(PICTURE, 16, box=(10, 10, 50, 50), margin=1.2)[0].box == (5, 5, 60, 60)


def appearance(scores, sure=True):
    """A crop with others that have these scores, None for NoFace, and what is looked at: `best_crop`'s arguments."""
    seen = []
    image = np.zeros((4, 4, 3), np.uint8)
    crops = [Crop(image, image, (i, 0, 4, 4), "p.png", "frontal", sure=sure) for i in range(len(scores))]

    def look(crop):
        number = crop.box[0]
        seen.append(number)
        if scores[number] is None:
            raise NoFace(f"nothing in {number}")
        return Scored(crop, number, scores[number])
    return crops[0]._replace(others=lambda: iter(crops[1:])), look, seen


@pytest.mark.parametrize("scores, sure, chosen, looked", [
    ((2.0, 3.0), True, 0, 1),               # a face: nothing else is looked at
    ((0.6, 0.4, 1.1, 4.0), True, 2, 3),     # the first face
    ((0.6, 0.8, None), True, 1, 3),         # none is certain: the best score
    ((None, None, 0.1), False, 2, 3),
    ((-0.4, -1.0), True, 0, 2),             # none is a face: as the detector found it
    ((float("nan"), -1.0), True, 0, 2)])
def test_the_best_crop(scores, sure, chosen, looked):
    crop, look, seen = appearance(scores, sure)
    assert best_crop(crop, look).answer == chosen and len(seen) == looked


@pytest.mark.parametrize("scores, sure, message", [((None, None), True, "nothing in 0"),
                                                   ((-0.4, None), False, "p.png: no face"),
                                                   ((None, -0.5), True, "nothing in 0")])
def test_no_face_anywhere(scores, sure, message):
    crop, look, _ = appearance(scores, sure)
    with pytest.raises(NoFace, match=message):
        best_crop(crop, look)


def test_a_crop_without_others_is_looked_at_alone():
    crop, look, seen = appearance((0.5, 2.0))
    assert best_crop(crop._replace(others=None), look).answer == 0 and seen == [0]
