"""Network/video/track.py: synthetic paths of faces, a detector that is counted and misled, a rendered video."""
import numpy as np
import pytest

from Dataset.geometry.smoothing import SmoothingConfig
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Network.video.track import (EXTENT, TrackConfig, Tracker, box_around, cascade_faces, overlaps, square,
                                 to_frame)
from tests.video_stubs import to_crop

IMAGE = np.zeros((200, 300, 3), np.uint8)
LATTICE = np.stack(np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 16)), -1).reshape(-1, 2)
PLAIN = SmoothingConfig("none")


def face(x, y, side=60.0):
    """Keypoints of a face whose box is (x, y, side)."""
    boundary = (1 - EXTENT) / 2
    return np.array([x, y]) + side * (boundary + EXTENT * LATTICE)


class Detector:
    """Sees the faces it is given; counts."""

    def __init__(self):
        self.calls, self.thorough, self.boxes = 0, 0, []

    def __call__(self, image, thorough, near=None):
        self.calls += 1
        self.thorough += thorough
        return self.boxes


def follow(tracker, frames, confidence=None, start=0):
    """frames: per frame the faces' keypoints; each track gets those nearest to its box -> numbers per frame."""
    out = []
    for n, faces in enumerate(frames, start):
        if isinstance(tracker._detect, Detector):
            tracker._detect.boxes = [(*box_around(f)[:2], box_around(f)[2], box_around(f)[2]) for f in faces]
        seen = {}
        for track in tracker.begin(IMAGE, n, n / 30):
            middle = track.box[:2] + track.box[2] / 2
            near = min(faces, key=lambda f: np.abs(f.mean(0) - middle).sum(), default=face(*track.box))
            if tracker.update(track, near, confidence, n / 30):
                seen[track.number] = near.mean(0)
        tracker.settle(n / 30)
        out.append(seen)
    return out


def test_a_face_is_followed_with_few_runs_of_the_detector():
    detect = Detector()
    tracker = Tracker(TrackConfig(detect_every=10, box=PLAIN), detect)
    seen = follow(tracker, [[face(20 + 3 * n, 40 + n)] for n in range(40)])
    assert all(list(numbers) == [0] for numbers in seen)
    assert detect.calls == 4 and detect.thorough == 1       # frames 0, 10, 20, 30; nobody was known in the first
    np.testing.assert_allclose(tracker.tracks[0].box, (20 + 3 * 39, 40 + 39, 60), atol=1e-9)


def test_boxes_are_averaged_as_in_the_paper():
    tracker = Tracker(TrackConfig(detect_every=100), Detector())
    follow(tracker, [[face(20, 40)], [face(30, 40)], [face(34, 44, 64)]])
    np.testing.assert_allclose(tracker.tracks[0].box, (32, 42, 62), atol=1e-9)


@pytest.mark.parametrize("keypoints, confidence, reason", [
    (face(60, 40), 0.1, "the network sees no face"), (face(60, 40), np.nan, "the network sees no face"),
    (np.full((256, 2), np.nan), 0.9, "its keypoints are not finite"), (face(60, 40, 10), 0.9, "its size is no face's"),
    (face(110, 40), 0.9, "jumped"), (face(30, 10, 130), 0.9, "jumped"), (face(-50, 40), 0.9, "left the image")])
def test_what_loses_a_face(keypoints, confidence, reason):
    tracker = Tracker(TrackConfig(detect_every=100), Detector())
    start = face(-20, 40) if reason.startswith("left") else face(60, 40)
    follow(tracker, [[start]], 0.9)
    track, = tracker.tracks
    track.state = "geometry"
    assert not tracker.update(track, keypoints, confidence, 0.1)
    assert (track.reason, track.state, tracker.tracks) == (reason, None, [])


def test_a_face_that_comes_back_keeps_its_number_for_a_while():
    frames = [[face(120 + 20 * n, 60)] for n in range(10)] + [[]] * 8 + [[face(200, 60)]] * 3
    for remember, number in ((3.0, 0), (0.1, 1)):
        tracker = Tracker(TrackConfig(detect_every=50, remember=remember), Detector())
        seen = follow(tracker, frames)
        assert [list(s) for s in seen[:3]] == [[0]] * 3 and seen[12] == {} and list(seen[20]) == [number]
        assert tracker.tracks[0].age == 3


def test_after_a_loss_the_detector_is_asked_at_once():
    detect = Detector()
    tracker = Tracker(TrackConfig(detect_every=1000), detect)
    follow(tracker, [[face(60, 40)]] * 5, 0.9)
    assert detect.calls == 1
    follow(tracker, [[face(60, 40)]], 0.0, start=5)
    seen = follow(tracker, [[face(62, 40)]] * 3, 0.9, start=6)
    assert detect.calls == 2 and [list(s) for s in seen] == [[0]] * 3


def test_while_others_are_followed_a_lost_face_is_sought_now_and_then():
    detect = Detector()
    tracker = Tracker(TrackConfig(detect_every=1000, faces=2), detect)
    follow(tracker, [[face(20, 40), face(200, 40)]] * 3)
    assert detect.calls == 1
    tracker.lose(tracker.tracks[1], "by hand", 0.1)
    follow(tracker, [[face(20, 40)]] * 30, start=3)
    assert detect.calls == 11               # every third frame
    follow(tracker, [[face(20, 40)]] * 30, start=300)
    assert detect.calls <= 13               # forgotten after three seconds
    seen = follow(tracker, [[face(20, 40), face(200, 40)]] * 3, start=2000)
    assert set(seen[-1]) == {0, 2}


def test_patience_of_networks_that_give_no_confidence():
    class Blind(Detector):
        def __call__(self, image, thorough, near=None):
            super().__call__(image, thorough, near)
            return [] if self.calls > 1 else self.boxes
    for confidence, lost in ((None, True), (0.9, False)):
        detect = Blind()
        tracker = Tracker(TrackConfig(detect_every=5, patience=2), detect)
        seen = follow(tracker, [[face(60, 40)]] * 14, confidence)
        assert seen[4] and (not seen[11]) == lost
        assert detect.thorough >= 1


class Ghost(Detector):
    """Misses the face in the calls that it is given."""

    def __init__(self, misses):
        super().__init__()
        self.misses = misses

    def __call__(self, image, thorough, near=None):
        found = super().__call__(image, thorough, near)
        return [] if self.calls in self.misses else found


def test_a_face_that_vanishes_in_mid_frame_is_soon_given_up():
    """The network says no confidence, and sees a face where it last was for ever."""
    tracker = Tracker(TrackConfig(), Ghost(range(3, 1000)))     # checks at frames 0 and 15; gone from 20 on
    seen = follow(tracker, [[face(120, 60)]] * 60)
    last = max(n for n, numbers in enumerate(seen) if numbers)
    assert 30 <= last < 40 and tracker.tracks == []             # the first check after it went is frame 30's
    detect = Ghost([3, 4])                                      # turned away for two looks: kept, at the usual pace
    tracker = Tracker(TrackConfig(), detect)
    assert all(follow(tracker, [[face(120, 60)]] * 80)) and detect.thorough == 2
    assert detect.calls == len({0, 15, 30, 33, 36, 51, 66})


def test_two_faces_that_pass_each_other_keep_their_numbers():
    frames = [[face(20 + 6 * n, 20), face(200 - 6 * n, 110)] for n in range(25)]
    tracker = Tracker(TrackConfig(detect_every=4, faces=5, box=PLAIN), Detector())
    seen = follow(tracker, frames)
    tops = {number: [s[number][1] for s in seen] for number in (0, 1)}
    assert np.ptp(tops[0]) < 1 and np.ptp(tops[1]) < 1 and abs(tops[0][0] - tops[1][0]) > 50
    assert set(seen[-1]) == {0, 1}


def test_finds_are_matched_as_a_whole_not_one_by_one():
    """The first track overlaps both finds, more the one that is the second's only choice."""
    tracker = Tracker(TrackConfig(detect_every=1, faces=4, patience=1, box=PLAIN), Detector())
    follow(tracker, [[face(40, 40), face(120, 40)]])
    first, second = tracker.tracks
    first.box, second.box = np.array([60.0, 40, 60]), np.array([90.0, 40, 60])
    tracker._meet([np.array([64.0, 40, 60]), np.array([32.0, 40, 60])], 0.1)
    assert tracker.tracks == [first, second] and first.misses == second.misses == 0


def test_no_more_faces_than_asked_and_the_largest_first():
    frames = [[face(10, 10, 90), face(150, 30, 60), face(230, 120, 50)]] * 3
    for faces in (1, 2, 16):
        tracker = Tracker(TrackConfig(faces=faces), Detector())
        seen = follow(tracker, frames)
        assert len(seen[-1]) == min(faces, 3) and seen[-1][0][0] < 60


def test_of_two_tracks_on_one_face_the_younger_goes():
    tracker = Tracker(TrackConfig(faces=4, detect_every=100, box=PLAIN), Detector())
    follow(tracker, [[face(40, 40)]] * 3)
    follow(tracker, [[face(40, 40)]], start=200)
    tracker.tracks.append(tracker._begun(np.array([45.0, 42, 60]), 7.0))
    tracker.settle(7.0)
    assert [t.number for t in tracker.tracks] == [0]


def test_a_synthetic_head_leaves_and_comes_back():
    options = VideoOptions(width=160, height=120, head=0.6, frames=90, seed=2, leave=True)
    video = SyntheticVideo(options)
    targets = [video.truth(n)[0] for n in range(90)]
    image, seen = np.zeros((120, 160, 3), np.uint8), []

    def detect(_, thorough, near):
        low, high = truth.landmarks[17:].min(0), truth.landmarks[17:].max(0)
        return [(*low, *(high - low))] if truth.inside > 0.9 else []
    tracker = Tracker(TrackConfig(detect_every=15), detect, margin=1.5)
    for n, truth in enumerate(targets):
        tracks = tracker.begin(image, n, n / 30)
        seen.append([t.number for t in tracks if tracker.update(t, truth.keypoints, None, n / 30)])
    inside = np.array([t.inside for t in targets])
    followed = np.array([bool(s) for s in seen])
    assert not followed[inside < 0.3].any() and followed[inside > 0.9].mean() > 0.95
    assert (inside < 0.3).sum() > 10 and {n for s in seen for n in s} == {0}
    assert tracker.detections < 45


def test_the_cascades_find_a_rendered_face():
    video = SyntheticVideo(VideoOptions(kind="still", width=320, height=240, head=0.7, seed=1, frames=1))
    frame = video.frame(0)
    (x, y, w, h), = cascade_faces(frame.image, False)
    nose = frame.faces[0].landmarks[30]
    assert x < nose[0] < x + w and y < nose[1] < y + h
    again, = cascade_faces(frame.image, False, square((x, y, w, h), 1.3))
    assert np.abs(np.subtract(again, (x, y, w, h))).max() < 0.15 * w
    far = cascade_faces(frame.image, False, np.array([0.0, 0.0, 60.0]))
    assert far == [] and cascade_faces(frame.image, False, np.array([-500.0, 0, 60])) == []
    assert cascade_faces(np.full((240, 320, 3), 90, np.uint8), True) == []


def test_geometry_of_boxes():
    np.testing.assert_allclose(square((10, 20, 30, 50), 2.0), (-25, -5, 100))
    keypoints, box = np.random.default_rng(0).uniform(0, 1, (7, 3)), (5.0, -3.0, 40.0)
    np.testing.assert_allclose(to_crop(to_frame(keypoints, box), box), keypoints)
    np.testing.assert_allclose(to_frame([[0.5, 1.0, 0.25]], box), [[25, 37, 10]])
    np.testing.assert_allclose(box_around(face(12, 34, 56)), (12, 34, 56))
    a = np.column_stack([np.random.default_rng(1).uniform(0, 50, (5, 2)), [10, 20, 30, 40, 50]])
    for i, first in enumerate(a):
        for j, other in enumerate(a):
            x, y = np.meshgrid(np.arange(0, 110, 0.25) + 0.125, np.arange(0, 110, 0.25) + 0.125)
            inside = [((x > b[0]) & (x < b[0] + b[2]) & (y > b[1]) & (y < b[1] + b[2])) for b in (first, other)]
            slow = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
            assert overlaps(a, a)[i, j] == pytest.approx(slow, abs=0.02)
    with pytest.raises(ValueError, match="detect_every must be within 1 to 10000, got 0"):
        TrackConfig(detect_every=0)


def test_constants_are_those_of_single_photos():
    from Network.inference import photos  # Keras, which the module itself does not need
    assert photos.EXTENT == EXTENT
