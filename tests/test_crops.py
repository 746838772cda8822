"""From a photo to the crop that is believed: the detector's faces, turned upright, and the choice among them."""
import numpy as np
import pytest

from Dataset.detection.cascades import Detection
from Dataset.io.inputs import NamedImage
from Network.inference.photos import RELIABLE, Crop, NoFace, Scored, best_crop, crop_faces, faces_of

PHOTO = NamedImage("p.png", np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8))
POINTS = ((0.0, 0.0),) * 6
LARGE, SMALL, DOUBTFUL = (Detection(box, score, name, POINTS, 0.0, certain) for box, score, name, certain in (
    ((200, 20, 60, 60), 0.9, "frontal", True), ((20, 150, 40, 40), 0.7, "turned", True),
    ((100, 100, 30, 30), 0.4, "frontal", False)))


def detector(*found):
    return lambda image, every_face=False: list(found)


def test_the_largest_face_comes_with_the_others():
    crop, = crop_faces(PHOTO, 16, detector(LARGE, SMALL, DOUBTFUL), margin=1.5)
    assert crop.box == (185, 5, 90, 90) and crop.detected == 0.9 and crop.reliable and crop.pass_name == "frontal"
    other, = crop.others
    assert other.box == (10, 140, 60, 60) and not other.reliable and other.others == ()
    assert crop.whole is PHOTO.image and crop.image.shape == (16, 16, 3)
    assert LARGE.score >= RELIABLE > SMALL.score


def test_every_face_and_a_box_by_hand_have_no_others():
    crops = crop_faces(PHOTO, 16, detector(LARGE, SMALL, DOUBTFUL), every_face=True)
    assert [(crop.detected, crop.others) for crop in crops] == [(0.9, ()), (0.7, ())]
    byhand, = crop_faces(PHOTO, 16, detector(), box=(10, 10, 50, 50), margin=1.2)
    assert byhand.box == (5, 5, 60, 60) and byhand.others == () and byhand.reliable and byhand.detected is None
    assert crop_faces(PHOTO, 16, detector()) == []


def test_a_doubtful_face_is_refused_with_a_hint():
    with pytest.raises(NoFace, match=r"^p.png: no face is certain, the likeliest has a score of 0.40; try .*upright.*"
                                     r"--box x,y,w,h$"):
        crop_faces(PHOTO, 16, detector(DOUBTFUL))

    def crops_of(photo):
        return crop_faces(photo, 16, detector(DOUBTFUL))
    with pytest.raises(ValueError, match="^p.png: no face is certain"):
        list(faces_of([PHOTO], crops_of))
    with pytest.raises(ValueError, match="^p.png, q.png: no face found; try .*--box x,y,w,h$"):
        list(faces_of([PHOTO, PHOTO._replace(name="q.png")], crops_of))


@pytest.mark.parametrize("roll, turned", [(0.0, 0.0), (29.0, 0.0), (-29.0, 0.0), (80.0, 90.0), (-95.0, 270.0),
                                          (172.0, 180.0), (-178.0, 180.0), (40.0, 40.0), (-130.0, 230.0)])
def test_a_turned_head_is_cut_upright(roll, turned):
    """The crop shows what the box shows, turned back, and its corner's way leads to the same pixels of the photo."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[90:110, 150:170] = (0, 0, 255)                # a red square in the middle of the box
    centre, angle = np.array([160.0, 100.0]), np.radians(roll if turned else 0.0)
    up = np.array([-np.sin(angle), -np.cos(angle)])     # where the head's top is, counter-clockwise from straight up
    y, x = np.mgrid[0:240, 0:320] + 0.5
    image[np.hypot(x - centre[0] - 30 * up[0], y - centre[1] - 30 * up[1]) < 6] = (0, 255, 0)
    crop, = crop_faces(NamedImage("p", image), 80, detector(Detection((120, 60, 80, 80), 0.9, "frontal", POINTS, roll)))
    assert crop.upright.degrees == turned and crop.whole.shape[2] == 3
    green, left = np.argwhere(crop.image[..., 1] > 128)[:, ::-1].mean(0), np.radians(roll - turned if turned else 0.0)
    # above the middle, but for what a quarter turn leaves
    assert np.abs(green - (39.5 - 30 * np.sin(left), 39.5 - 30 * np.cos(left))).max() < 1
    red = np.argwhere(crop.image[..., 2] > 128).mean(0)
    assert np.abs(red - 39.5).max() < 1
    back = crop.upright.in_photo(np.add(crop.box[:2], green + 0.5))
    assert np.abs(back - centre - 30 * up).max() < 1.5


def appearance(scores, reliable=True):
    """A crop with others that have these scores, None for NoFace, and what is looked at: `best_crop`'s arguments."""
    seen = []
    image = np.zeros((4, 4, 3), np.uint8)
    crops = [Crop(image, image, (i, 0, 4, 4), "p.png", "frontal", reliable=reliable) for i in range(len(scores))]

    def look(crop):
        number = crop.box[0]
        seen.append(number)
        if scores[number] is None:
            raise NoFace(f"nothing in {number}")
        return Scored(crop, number, scores[number])
    return crops[0]._replace(others=tuple(crops[1:])), look, seen


@pytest.mark.parametrize("scores, reliable, chosen, looked", [
    ((2.0, 3.0), True, 0, 1),               # a face: nothing else is looked at
    ((0.6, 0.4, 1.1, 4.0), True, 2, 3),     # the first face
    ((0.6, 0.8, None), True, 1, 3),         # none is certain: the best score
    ((None, None, 0.1), False, 2, 3),
    ((-0.4, -1.0), True, 0, 2),             # none is a face: as the detector found it
    ((float("nan"), -1.0), True, 0, 2)])
def test_the_best_crop(scores, reliable, chosen, looked):
    crop, look, seen = appearance(scores, reliable)
    assert best_crop(crop, look).answer == chosen and len(seen) == looked


@pytest.mark.parametrize("scores, reliable, message", [((None, None), True, "nothing in 0"),
                                                       ((-0.4, None), False, "p.png: no face"),
                                                       ((None, -0.5), True, "nothing in 0")])
def test_no_face_anywhere(scores, reliable, message):
    crop, look, _ = appearance(scores, reliable)
    with pytest.raises(NoFace, match=message):
        best_crop(crop, look)


def test_a_crop_without_others_is_looked_at_alone():
    crop, look, seen = appearance((0.5, 2.0))
    assert best_crop(crop._replace(others=()), look).answer == 0 and seen == [0]
