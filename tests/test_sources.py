"""Photos, folders, videos, webcam; and what is none of them."""
import cv2
import numpy as np
import pytest
from PIL import Image

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


def test_folder_is_read_by_name_and_other_files_are_counted(tmp_path, caplog):
    """Each ending that can be read; macOS's companions are none of them, whatever their ending."""
    for i in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{i}.png"), numbered(i))
    for i, (ending, kind) in enumerate(((".jfif", "JPEG"), (".gif", "GIF"), (".jp2", "JPEG2000"), (".avif", "AVIF"))):
        Image.fromarray(numbered(3 + i)).save(tmp_path / f"{3 + i}{ending}", kind)
    for name in ("._0.png", "._1.jpg", "notes.txt", "more.TXT", "IMG.HEIC", "README"):
        (tmp_path / name).write_bytes(b"x")
    found = [int(p.image.mean()) for p in read_inputs([tmp_path])]
    np.testing.assert_allclose(found, range(20, 141, 20), atol=2)
    line, = caplog.messages
    assert line == f"{tmp_path}: left out what is no photo: 2 ._*, 1 .heic, 2 .txt, 1 without an ending"


def test_the_example_without_its_dashes():
    with pytest.raises(ValueError, match="^example: no such file; did you mean --example[?]$"):
        list(read_inputs(["example"]))


def test_video_frames_are_evenly_spaced(video):
    found = list(read_inputs([video], frames=4))
    assert [p.name.split("#")[1] for p in found] == ["0", "3", "6", "9"]
    for frame, index in zip(found, (0, 3, 6, 9)):
        assert abs(int(frame.image.mean()) - (20 + 20 * index)) <= 2


@pytest.mark.parametrize("stated", [0, -1, 1e12])
def test_frames_of_a_video_without_a_length_are_evenly_spaced(video, monkeypatch, stated):
    """As WebM of a browser: the frames are counted."""
    class Unstated:
        def __init__(self, name, plain=cv2.VideoCapture):
            self._capture = plain(name)

        def __getattr__(self, name):
            return getattr(self._capture, name)

        def get(self, what):
            return stated if what == cv2.CAP_PROP_FRAME_COUNT else self._capture.get(what)
    monkeypatch.setattr(cv2, "VideoCapture", Unstated)
    assert [p.name.split("#")[1] for p in read_inputs([video], frames=4)] == ["0", "3", "6", "9"]


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
