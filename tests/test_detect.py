"""Dataset/detection/cascades.py and Network/facedetect.py, on a rendered face."""
import cv2
import numpy as np
import pytest

from Dataset.detection import cascades as detect
from Dataset.detection.cascades import Detection, Pass, detect_as_published, detect_faces, merge_overlapping
from Dataset.io.images import read_image
from Network.facedetect import find_faces
from tests.raw_bu4dfe import shared_raw


@pytest.fixture(scope="module")
def photo():
    return read_image(shared_raw() / "F001" / "Angry" / "000.jpg")


def centre(box):
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def close(box, other, tolerance=0.1):
    """Same centre and size, within a fraction of the size."""
    shift = np.abs(centre(box) - centre(other)).max()
    return shift < tolerance * other[2] and abs(box[2] / other[2] - 1) < 2 * tolerance


def test_thesis_is_plain_detect_multi_scale(photo):
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    plain = sorted(tuple(int(v) for v in box) for box in cascade.detectMultiScale(photo, 1.1, 4))
    assert sorted(d.box for d in detect_faces(photo, thesis=True)) == plain
    assert len(plain) >= 1
    crops = find_faces(photo)
    assert sorted(c.shape[:2] for c in crops) == sorted((h, w) for _, _, w, h in plain)
    x, y, w, h = detect_as_published(photo)[0].box
    assert np.array_equal(crops[0], photo[y:y + h, x:x + w])


def test_a_frontal_face_needs_one_pass(photo):
    found = detect_faces(photo)
    assert len(found) == 1 and found[0].pass_name == "frontal" and found[0].score >= 20
    assert all(isinstance(v, int) for v in found[0].box)
    height, width = photo.shape[:2]
    assert np.abs(centre(found[0].box) - (width / 2, height / 2)).max() < 0.15 * width


def test_stages_after_the_first_find_are_not_run(photo, monkeypatch):
    plain, ran = detect._run, []
    monkeypatch.setattr(detect, "_run", lambda image, one, minimum: ran.append(one.name) or plain(image, one, minimum))
    detect_faces(photo)
    assert ran == ["frontal"]
    ran.clear()
    assert detect_faces(np.full((300, 200), 90, np.uint8)) == []
    assert ran == [one.name for stage in detect.STAGES for one in stage] and ran[-2:] == ["alt2 +40", "alt2 -40"]


def test_box_is_in_pixels_of_the_image_given(photo):
    box = detect_faces(photo)[0].box
    large = cv2.resize(photo, None, fx=5, fy=5)
    assert close(np.array(detect_faces(large)[0].box) / 5, box)
    assert close(np.array(detect_faces(large, max_side=320)[0].box) / 5, box)


def test_grey_is_the_same(photo):
    assert detect_faces(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)) == detect_faces(photo)


@pytest.mark.parametrize("angle, name", [(25, "frontal -20"), (-25, "frontal +20"), (45, "alt2 -40"),
                                         (-45, "alt2 +40")])
def test_a_tilted_face_is_found_where_it_is(photo, angle, name):
    height, width = photo.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    tilted = cv2.warpAffine(photo, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    found = detect_faces(tilted)
    box = detect_faces(photo)[0].box
    expected = turn @ (*centre(box), 1)
    assert [d.pass_name for d in found] == [name]
    assert np.abs(centre(found[0].box) - expected).max() < 0.1 * width
    assert abs(found[0].box[2] / box[2] - 1) < 0.2          # upright, and no larger for the turn


def test_a_mirrored_pass_sees_the_mirrored_image(photo):
    width = photo.shape[1]
    plain = detect._run(photo, Pass("a", detect.FRONTAL, 4), 24)
    mirrored = detect._run(cv2.flip(photo, 1), Pass("a", detect.FRONTAL, 4, mirrored=True), 24)
    assert sorted((width - x - w, y, w, h) for x, y, w, h in (one.box for one in plain)) \
        == sorted(d.box for d in mirrored) != []


def test_two_subjects_the_larger_first(photo):
    small = cv2.resize(photo, None, fx=0.6, fy=0.6)
    both = np.full((photo.shape[0], photo.shape[1] + small.shape[1], 3), 128, np.uint8)
    both[:, :photo.shape[1]] = photo
    both[-small.shape[0]:, photo.shape[1]:] = small
    found = detect_faces(both)
    assert len(found) == 2 and found[0].box[2] > found[1].box[2]
    assert found[0].box[0] < photo.shape[1] < found[1].box[0] + found[1].box[2]
    assert len(detect_faces(both, every_stage=True)) >= 2


@pytest.mark.parametrize("shape", [(300, 200, 3), (1, 1, 3), (4, 2000, 3), (40, 40)])
def test_nothing_is_an_empty_list(shape):
    grey = np.full(shape, 90, np.uint8)
    assert detect_faces(grey) == [] and detect_faces(grey, thesis=True) == [] and find_faces(grey) == []


def test_merging_adds_scores_and_drops_what_lies_within():
    face, again = Detection((100, 100, 100, 100), 5.0, "a"), Detection((105, 105, 100, 100), 9.0, "b")
    eye, other = Detection((120, 120, 30, 30), 8.0, "c"), Detection((300, 0, 150, 150), 1.0, "d")
    assert merge_overlapping([face, eye, again, other]) == [other, again._replace(score=14.0)]
    assert merge_overlapping([face, eye]) == [eye]
    assert merge_overlapping([]) == []


def test_weak_finds_of_a_stage_are_dropped(photo, monkeypatch):
    boxes = [Detection((0, 0, 60, 60), 3.9, "a"), Detection((100, 100, 50, 50), 20.0, "a"),
             Detection((200, 0, 40, 40), 4.1, "a")]
    monkeypatch.setattr(detect, "_run", lambda *a: boxes)
    found = detect_faces(np.zeros((300, 300), np.uint8), stages=((Pass("a", "x", 1),),))
    assert [d.box[0] for d in found] == [100, 200]


def test_bad_input_is_refused(photo):
    for image, received in ((photo.astype(np.float32), r"\(268, 200, 3\) float32"), (photo[0, 0], r"\(3,\) uint8"),
                            (photo[:0], r"\(0, 200, 3\)")):
        with pytest.raises(ValueError, match=f"faces are sought in .* got {received}"):
            detect_faces(image)
    with pytest.raises(ValueError, match="max_side must be at least 32 pixels, got 8"):
        detect_faces(photo, max_side=8)


def test_missing_cascades_are_one_clear_line(photo, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="mine.xml: must be a face cascade; opencv-python<5 ships them"):
        find_faces(photo, tmp_path / "mine.xml")
    (tmp_path / "broken.xml").write_text("<opencv_storage></opencv_storage>")
    with pytest.raises(ValueError, match="broken.xml: must be a face cascade"):
        find_faces(photo, tmp_path / "broken.xml")
    detect._cascade.cache_clear()
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ValueError, match="no cascades, which --detector thesis needs: pip install 'opencv-python<5'"):
        detect_faces(photo)
    monkeypatch.undo()
    detect._cascade.cache_clear()
