"""Videos by numbers: what is hidden does not count, filters have the parameters that were asked for, frames are wider
than high, and a curve looks at all of the face."""
from types import SimpleNamespace

import numpy as np
import pytest

from Dataset.geometry.smoothing import Average, OneEuro, SmoothingConfig, Unwrapped
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Evaluation.metrics.curve import errors
from Evaluation.metrics.distances import MAX_ALIGNED
from Evaluation.metrics.stability import lag, measure, uv_errors
from Network.video.track import EXTENT, TrackConfig, Tracker, box_around

LATTICE = np.stack(np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 16)), -1).reshape(-1, 2)
EVEN = np.arange(256) % 2 == 0


def swinging(frames: int = 80) -> np.ndarray:
    t = np.arange(frames)
    path = np.stack([60 + 25 * np.sin(t / 13), 80 + 10 * np.sin(t / 9 + 1)], -1)
    return path[:, None] + 100 * LATTICE


def half_hidden(frames: int = 80) -> np.ndarray:
    """Every second point is hidden, and all of them in the last ten frames."""
    visible = np.broadcast_to(EVEN, (frames, 256)).copy()
    visible[-10:] = False
    return visible


# Evaluation/metrics/stability.py


def test_found_counts_visible_points_in_frames_that_have_some():
    """Half of the points are hidden. In ten frames only hidden ones are shown: not found. In ten more nothing is
    visible: they do not count."""
    truth, visible = swinging(), half_hidden()
    shown = truth.copy()
    shown[20:30, EVEN] = np.nan             # only the hidden half is there
    shown[-10:] = np.nan
    assert measure(shown, truth, visible).found == pytest.approx(60 / 70)
    assert measure(truth, truth, visible).found == 1
    assert measure(shown, truth).found == pytest.approx(70 / 80)


def test_lag_looks_at_visible_points_only():
    """Visible points trail by three frames, hidden ones run two ahead."""
    truth = swinging(100)
    shown = np.full((80, 256, 2), np.nan)
    shown[:, EVEN], shown[:, ~EVEN] = truth[12:92][:, EVEN], truth[17:97][:, ~EVEN]
    truth, visible = truth[15:95], np.broadcast_to(EVEN, (80, 256)).copy()
    assert lag(shown, truth, visible) == pytest.approx(3.0, abs=0.1)
    assert measure(shown, truth, visible, rate=50.0).lag == pytest.approx(60.0, abs=2)
    assert measure(shown, truth, ~visible, rate=50.0).lag == pytest.approx(-40.0, abs=2)


def test_errors_of_hidden_points_do_not_count():
    truth, visible = swinging(), half_hidden()
    noise = np.random.default_rng(0).normal(0, 3, truth.shape)
    noise[:, EVEN] = 0
    found = measure(truth + (1.0, 0) + noise, truth, visible, uv=noise / 100)
    assert found.error == pytest.approx(1.0) and found.jitter < 1e-9 and found.sigma < 1e-9
    assert found.uv_jitter < 1e-9 and found.uv_sigma < 1e-9
    assert measure(truth + noise, truth, uv=noise / 100).uv_sigma > 1


def test_uv_errors_say_across_before_down():
    """A face twice as wide as high, shown 2 px too far left and 3 px too high: its keypoints lie 1 % and 3 % on."""
    shown = (LATTICE * (200.0, 100.0))[None]
    np.testing.assert_allclose(uv_errors(shown, shown + (2.0, 3.0))[0], np.tile([0.01, 0.03], (256, 1)), atol=1e-9)


# Evaluation/metrics/curve.py


def test_a_curve_looks_at_all_columns_of_the_grid():
    """Errors in all but every 16th column of the 128x128 grid, or in every 16th alone, weigh as their number does."""
    side = 128
    truth = np.random.default_rng(0).normal(0, 1, (side * side, 3))
    step, column = side * side // MAX_ALIGNED, np.arange(side * side) % side
    noise = np.random.default_rng(1).normal(0, 0.05, truth.shape)
    whole = errors((truth + noise)[None, None], truth)[0, 0]
    for where in (column % step != 0, column % step == 0):
        part = errors((truth + noise * where[:, None])[None, None], truth)[0, 0]
        assert part == pytest.approx(where.mean() * whole, rel=0.3), where.mean()


# Dataset/geometry/smoothing.py, Network/video/track.py


@pytest.mark.parametrize("config, made", [
    (SmoothingConfig("average", window=5), Average(5)),
    (SmoothingConfig("average", window=4, recursive=True), Average(4, True)),
    (SmoothingConfig("one-euro", cutoff=0.4, beta=3.0, derivative_cutoff=0.2), OneEuro(0.4, 3.0, 0.2)),
    (SmoothingConfig("one-euro", cutoff=4.0, beta=0.0), OneEuro(4.0, 0.0, 1.0))])
def test_a_filter_has_its_configs_parameters(config, made):
    values = np.cumsum(np.random.default_rng(0).normal(0, 0.3, (30, 3)), 0)
    plain, turning = config.filter(), config.filter([0, 0, 0])
    for n, value in enumerate(values):
        expected = made(value, n / 30)
        np.testing.assert_array_equal(plain(value, n / 30), expected)
        np.testing.assert_array_equal(turning(value, n / 30), expected)


def test_periods_come_round():
    around = SmoothingConfig("average", window=2).filter([360])
    assert isinstance(around, Unwrapped)
    around(np.array([179.0]), 0.0)
    np.testing.assert_allclose(np.abs(around(np.array([-179.0]), 1.0)), [180])      # half way, not 0


def face(x: float, y: float, side: float = 60.0) -> np.ndarray:
    return np.array([x, y]) + side * ((1 - EXTENT) / 2 + EXTENT * LATTICE)


def tracker(shape: tuple[int, int], boxes: list, **settings) -> tuple[Tracker, list]:
    seen: list = []

    def detect(image, thorough, near=None):
        seen.append(image.shape)
        return boxes
    found = Tracker(TrackConfig(**settings), detect)
    found.begin(np.zeros((*shape, 3), np.uint8), 0, 0.0)
    return found, seen


def test_a_tracks_box_is_smoothed_as_the_config_says():
    boxes = {}
    for smoothing in (SmoothingConfig("none"), SmoothingConfig("average", 3), SmoothingConfig("average", 4, True)):
        found, _ = tracker((200, 300), [(20, 40, 60, 60)], box=smoothing, detect_every=100)
        for n, x in enumerate((20, 32, 44), 1):
            assert found.update(found.tracks[0], face(x, 40), 0.9, n / 30)
        boxes[smoothing.window] = found.tracks[0].box[0]
    assert boxes[2] == pytest.approx(44) and boxes[3] == pytest.approx(32)
    assert boxes[4] == pytest.approx(20 + 12 / 4 + (44 - 23) / 4)          # 20, 23, then a quarter of the way to 44


@pytest.mark.parametrize("shape, corner", [((120, 400), (300, 30)), ((400, 120), (30, 300))])
def test_a_face_in_the_far_end_of_a_long_frame_is_in_the_image(shape, corner):
    found, _ = tracker(shape, [(*corner, 60, 60)], detect_every=100)
    assert found.update(found.tracks[0], face(*corner), 0.9, 0.1)
    gone = (corner[0] + 90, corner[1]) if shape[1] == 120 else (corner[0], corner[1] + 95)
    found.tracks[0].box = box_around(face(*gone))
    assert not found.update(found.tracks[0], face(*gone), 0.9, 0.2)


def test_a_look_near_a_face_at_the_far_end_of_a_wide_frame(monkeypatch):
    """The part that is searched holds the face's surroundings; a find is given in px of the frame."""
    from Network.video import track as module
    frame, parts = np.zeros((100, 400, 3), np.uint8), []
    frame[30:70, 300:340] = 255

    def found(part, **_):
        parts.append(part)
        rows, columns = np.nonzero(part[..., 0])
        return [SimpleNamespace(box=(columns.min(), rows.min(), 40, 40))]
    monkeypatch.setattr(module, "detect_faces", found)
    assert module.cascade_faces(frame, False, np.array([300.0, 30.0, 40.0])) == [(300, 30, 40, 40)]
    assert parts[0].shape[:2] == (64, 64) and parts[0].max() == 255


def test_unsure_faces_are_lost_and_forgotten_in_time():
    found, _ = tracker((200, 300), [(20, 40, 60, 60)], confidence=0.5, remember=1.0, detect_every=1)
    assert not found.update(found.tracks[0], face(20, 40), 0.49, 0.1) and found.tracks == []
    again = found.begin(np.zeros((200, 300, 3), np.uint8), 1, 0.5)
    assert [track.number for track in again] == [0]
    found.lose(again[0], "for the test", 0.6)
    assert [track.number for track in found.begin(np.zeros((200, 300, 3), np.uint8), 2, 9.0)] == [1]


# Dataset/synthesis/video.py


def test_keypoints_off_a_wide_frame_are_not_visible():
    """While the first subject leaves: every visible keypoint lies in the image; `inside` is their fraction. In a wide
    frame a face at its far end is inside."""
    options = VideoOptions(width=240, height=120, head=0.7, frames=200, rate=100.0, leave=True, noise=0.0, seed=3)
    video, fractions = SyntheticVideo(options, render_context()), {}
    for number in (60, *range(70, 96, 2)):
        truth, = video.truth(number, hidden=False)
        inside = ((truth.keypoints >= 0) & (truth.keypoints < (240, 120))).all(-1)
        np.testing.assert_array_equal(truth.visible, inside)
        assert truth.inside == pytest.approx(inside.mean())
        fractions[number] = truth.inside
    assert max(fractions.values()) == 1 and min(fractions.values()) == 0
    half = min(fractions, key=lambda number: abs(fractions[number] - 0.5))
    assert 0.2 < fractions[half] < 0.8
    truth, = video.truth(half)
    inside = ((truth.keypoints >= 0) & (truth.keypoints < (240, 120))).all(-1)
    assert truth.visible.any() and not (truth.visible & ~inside).any()
