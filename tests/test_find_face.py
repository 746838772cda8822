"""Whole images with the bundled networks: a face wherever it is and however it is turned; two faces in one image."""
import logging

import cv2
import numpy as np
import pytest

from Dataset.detection.cascades import Detection
from Dataset.io.images import write_image
from Dataset.io.inputs import NamedImage
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Network import from_preset
from Network.inference import base
from Network.inference.base import Face, Predictor
from Network.inference.photos import RELIABLE, Crop, NoFace, faces_of

NETWORKS = ("compact", "coarse-small")      # of those that know where the 68 landmarks are


@pytest.fixture(scope="module")
def frames():
    """One head, small and off the middle of an image of 400x300, and two heads side by side in one of 560x320, before
    clutter, with their truth."""
    alone = VideoOptions(kind="still", seed=7, width=400, height=300, head=0.55, clutter=0.7, yaw=60, subjects=1)
    two = VideoOptions(kind="still", seed=21, width=560, height=320, head=0.62, clutter=0.5, subjects=2)
    video = SyntheticVideo(alone)
    frame = video.frame(0)
    shifted = np.roll(frame.image, (30, -90), (0, 1))           # the head to the left and down
    landmarks = frame.faces[0].landmarks + (-90, 30)
    return (shifted, landmarks), SyntheticVideo(two, video.context).frame(0)


@pytest.fixture(scope="module", params=NETWORKS)
def stream(request):
    return from_preset(request.param)


def error(face: Face, truth: np.ndarray) -> float:
    """Mean distance of the landmarks, of sqrt(w h) of the true ones' box."""
    found = face.image_landmarks[:, :2]
    return float(np.linalg.norm(found - truth, axis=1).mean() / np.sqrt(np.prod(np.ptp(truth, axis=0))))


def counted(stream, monkeypatch) -> list[Crop]:
    """The crops that the stream looks at from now on."""
    looked, plain = [], stream._look
    monkeypatch.setattr(stream, "_look", lambda crop: looked.append(crop) or plain(crop))
    stream.reset()
    return looked


def test_a_face_that_the_detector_finds_costs_one_look(frames, stream, monkeypatch):
    image, truth = frames[0]
    looked = counted(stream, monkeypatch)
    face = stream.add(stream.crops(NamedImage("p.png", image))[0])
    assert len(looked) == 1 and error(face, truth) < 0.05 and 0.6 < face.crop.detected <= 1
    assert face.crop.others == () and face.crop.whole is None


@pytest.mark.parametrize("degrees", [90, 180, -90, 50])
def test_a_turned_photo_gives_the_same_face(frames, stream, degrees):
    """Landmarks and pose are those of the photo as it is, although the crop is upright."""
    image, truth = frames[0]
    stream.reset()
    upright = stream.add(NamedImage("p.png", image)).pose_numbers
    height, width = image.shape[:2]
    side = round(np.hypot(height, width))
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1)
    matrix[:, 2] += (side / 2 - width / 2, side / 2 - height / 2)
    turned = cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    stream.reset()
    face = stream.add(NamedImage("t.png", turned))
    assert error(face, (truth - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5) < 0.05
    yaw, pitch, roll, scale, x, y = face.pose_numbers
    assert abs((roll - upright[2] - degrees + 180) % 360 - 180) < 5
    assert np.abs(np.subtract((yaw, pitch), upright[:2])).max() < 8 and scale == pytest.approx(upright[3], rel=0.08)
    assert np.abs((x, y) - (matrix[:, :2] @ upright[4:] + matrix[:, 2])).max() < 8


def test_where_nobody_is_there_is_no_face(frames, stream):
    """Clutter alone, also where the detector takes it for a face that is not certain."""
    image = frames[0][0][:, 210:]
    stream.reset()
    with pytest.raises(NoFace, match="^p.png: no face"):
        stream.add(NamedImage("p.png", image))
    assert stream.count == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_every_face_of_an_image_comes_out_where_it_is(frames, network, tmp_path, monkeypatch, caplog):
    """demo.py --faces all: two subjects, two faces, each with its own landmarks, and no third."""
    import demo
    frame, faces, plain = frames[1], [], Predictor.add

    def add(self, crop):
        faces.append(plain(self, crop))
        return faces[-1]
    monkeypatch.setattr(Predictor, "add", add)
    write_image(tmp_path / "two.png", frame.image)
    with caplog.at_level(logging.WARNING):
        assert demo.main([str(tmp_path / "two.png"), "--model", network, "--faces", "all",
                          "-o", str(tmp_path / "face.ply")]) == 0
    assert len(faces) == 2
    off = np.array([[error(face, truth.landmarks) for truth in frame.faces] for face in faces])
    assert off.min(0).max() < 0.05 and off.max(1).min() > 0.5 and set(off.argmin(0)) == {0, 1}
    assert len(list(tmp_path.glob("face_*.ply"))) == 2


def test_what_the_detector_alone_takes_for_a_second_face_is_left_out(frames, stream, monkeypatch):
    """--faces all: what it sees in clutter without being certain the network does not take."""
    image, truth = frames[0]
    low, high = truth.min(0), truth.max(0)
    side = round(1.3 * float((high - low).max()))
    box = (*(int(c) for c in (low + high - side) / 2), side, side)
    monkeypatch.setattr(base, "make_detect", lambda name: lambda image, every_face: [
        Detection(box, 0.9, "frontal"), Detection((300, 30, 70, 70), RELIABLE - 0.1, "frontal")])
    (face, clutter), = faces_of([NamedImage("p.png", image)], lambda one: stream.crops(one, every_face=True), True)
    stream.reset()
    assert error(stream.add(face), truth) < 0.05
    stream.reset()
    with pytest.raises(NoFace):
        stream.add(clutter)
