"""Photos, folders, videos, webcam; and what is none of them."""
import cv2
import numpy as np
import pytest

from Dataset.io.inputs import read_inputs


def numbered(index: int) -> np.ndarray:
    return np.full((48, 64, 3), 20 + 20 * index, np.uint8)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for i in range(10):
        writer.write(numbered(i))
    writer.release()
    return path


def test_folder_is_read_by_name_and_other_files_are_left(tmp_path):
    for i in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{i}.png"), numbered(i))
    (tmp_path / "notes.txt").write_text("x")
    assert [int(p.image[0, 0, 0]) for p in read_inputs([tmp_path])] == [20, 40, 60]


def test_video_frames_are_evenly_spaced(video):
    found = list(read_inputs([video], frames=4))
    assert [p.name.split("#")[1] for p in found] == ["0", "3", "6", "9"]
    for picture, index in zip(found, (0, 3, 6, 9)):
        assert abs(int(picture.image.mean()) - (20 + 20 * index)) <= 2


@pytest.mark.parametrize("frames", [10, 50, 10**9, 10**20])
def test_a_short_video_gives_what_it_has(video, frames):
    """No memory is taken for frames that are not there."""
    found = list(read_inputs([video], frames=frames))
    assert len(found) == 10 and found[9].name.endswith("#9")


@pytest.mark.parametrize("name, content, message", [
    ("no.jpg", None, "no such file"), ("no.mp4", None, "no such file"), ("empty.png", b"", "is empty"),
    ("half.mp4", b"\0\0\0 ftypisom", "is no video that OpenCV can read"), ("text.jpg", b"hello", "must be an image")])
def test_what_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(read_inputs([tmp_path / name]))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_folder_without_photos(tmp_path):
    with pytest.raises(ValueError, match="holds no photo"):
        list(read_inputs([tmp_path]))


def test_missing_webcam(monkeypatch):
    class NoCamera:
        def __init__(self, device):
            assert device == 0

        def isOpened(self):
            return False

        def release(self):
            pass
    monkeypatch.setattr(cv2, "VideoCapture", NoCamera)
    with pytest.raises(ValueError, match="webcam 0: none found"):
        list(read_inputs(["webcam"]))
