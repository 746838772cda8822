"""Dataset/detection/dlib_detector.py on a rendered face, where dlib is installed; and what is said where it is not."""
import sys

import cv2
import numpy as np
import pytest

from Dataset.detection.cascades import detect_faces
from Dataset.detection.dlib_detector import MAX_ENLARGED, dlib_faces, load_dlib
from Dataset.io.images import read_image
from Network.video.track import dlib_boxes, make_detector, square
from Network.video.video import VideoConfig
from tests.raw_bu4dfe import shared_raw


@pytest.fixture
def photo() -> np.ndarray:
    pytest.importorskip("dlib", reason="dlib is an option: pip install '.[dlib]'")
    return read_image(shared_raw() / "F001" / "Angry" / "000.jpg")


def close(box, other, tolerance=0.12) -> bool:
    """Same middle and size, within a fraction of the size."""
    shift = max(abs(box[k] + box[2] / 2 - other[k] - other[2] / 2) for k in (0, 1))
    return shift < tolerance * other[2] and abs(box[2] / other[2] - 1) < 1.5 * tolerance


def test_its_boxes_are_as_the_cascades(photo):
    face, = dlib_faces(photo)
    assert close(face.box, detect_faces(photo)[0].box) and face.pass_name == "dlib" and face.score > 0.5
    assert all(isinstance(v, int) for v in face.box) and face.box[2] == face.box[3]
    assert dlib_faces(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)) == [face]


def test_boxes_are_in_pixels_of_the_image_given(photo):
    face, = dlib_faces(photo)
    large = cv2.resize(photo, None, fx=4, fy=4)
    for found in (dlib_faces(large), dlib_faces(large, max_side=320)):
        assert close(np.array(found[0].box) / 4, face.box)


def test_small_faces_are_found_enlarged_and_the_largest_is_first(photo):
    small = cv2.resize(photo, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    assert dlib_faces(small) == []
    assert close(np.array(dlib_faces(small, enlarge=1)[0].box) / 0.3, dlib_faces(photo)[0].box)
    both = np.full((photo.shape[0], 2 * photo.shape[1], 3), 128, np.uint8)
    half = cv2.resize(photo, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    both[:half.shape[0], :half.shape[1]], both[:, photo.shape[1]:] = half, photo
    first, second = dlib_faces(both, enlarge=1)
    assert first.box[0] > second.box[0] and first.box[2] > second.box[2]


def test_nothing_is_an_empty_list_and_bad_input_is_refused(photo):
    for shape in ((300, 200, 3), (1, 1, 3), (4, 2000, 3), (40, 40)):
        assert dlib_faces(np.full(shape, 90, np.uint8)) == []
    with pytest.raises(ValueError, match=r"faces are sought in .* got \(268, 200, 3\) float32"):
        dlib_faces(photo.astype(np.float32))
    for options, rule in (({"max_side": 8}, "max_side must be at least 32 pixels, got 8"),
                          ({"enlarge": MAX_ENLARGED + 1}, "enlarge must be within 0 to 2, got 3"),
                          ({"enlarge": -1}, "enlarge must be within 0 to 2, got -1")):
        with pytest.raises(ValueError, match=rule):
            dlib_faces(photo, **options)


def test_a_video_is_followed_with_it(photo):
    frame = np.full((480, 640, 3), 128, np.uint8)
    frame[100:368, 250:450] = photo
    found, = dlib_boxes(frame, False)
    assert close((found[0] - 250, found[1] - 100, *found[2:]), dlib_faces(photo)[0].box)
    again, = dlib_boxes(frame, False, square(found, 1.3))
    assert close(again, found)
    assert dlib_boxes(frame, True, np.array([-500.0, 0, 60])) == []
    assert make_detector(VideoConfig(video_detector="dlib").video_detector) is dlib_boxes


def test_without_dlib_it_is_one_line_and_nothing_else_needs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)          # as if it were not installed
    load_dlib.cache_clear()
    for call in (lambda: VideoConfig(video_detector="dlib"), lambda: make_detector("dlib"),
                 lambda: dlib_faces(np.zeros((90, 90), np.uint8))):
        with pytest.raises(ValueError, match=r"^dlib is not installed: pip install '\.\[dlib\]' .*Windows\)$"):
            call()
    assert VideoConfig().video_detector == "blazeface"
    load_dlib.cache_clear()
