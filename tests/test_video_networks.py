"""Predictors over videos: with perfect maps, a perfect iteration and the bundled weights, faces lie where they
are."""
import numpy as np
import pytest

from Dataset.io.images import minmax
from Dataset.representations.coefficients import encode
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Network.inference import coarse, uvnet
from Network.inference.iterate import WHOLE, Iterated
from Network.inference.rendered import face_triangles
from Network.video.video import FaceVideo, VideoConfig
from tests.video_stubs import Clock, blank, detector

RAW = VideoConfig(smoothing="none", detect_every=1000)


@pytest.fixture(scope="module")
def video():
    return SyntheticVideo(VideoOptions(frames=12, seed=1, width=320, height=240, head=0.6))


def followed(video, network, frames=12):
    clock = Clock(blank(video)[:frames])
    runner = FaceVideo(network, RAW, 1, detector(video, lambda: clock.frame))
    network.clock = clock
    return [runner(frame) for frame in clock]


class Maps(uvnet.Follower):
    """Sees the true map of the crop."""

    def __init__(self, video, size=96):
        super().__init__(lambda image: self.output, size, 1.3)
        self.video = video

    def __call__(self, cut, state):
        face, = self.video.truth(cut.frame, hidden=False)
        maps = self.video.uv(face, cut.box, self.size)
        self.output = np.concatenate([np.nan_to_num(maps.uv), maps.mask[..., None], maps.mask[..., None]], -1)
        return super().__call__(cut, state)


def _near(video, frames, within):
    for n, (face,) in enumerate(frames):
        truth, = video.truth(n)
        size = np.sqrt(np.ptp(truth.landmarks, axis=0).prod())
        miss = np.linalg.norm(face.landmarks[17:] - truth.landmarks[17:], axis=1)
        assert miss.mean() < within * size
        errors = np.linalg.norm(face.keypoints - truth.keypoints, axis=1)[truth.visible]
        assert errors.mean() < within * size
        assert np.abs(face.pose[:3] - truth.pose[:3]).max() < 6 and face.pose.shape == (6,)
        assert face.vertices[:, 2].max() - face.vertices[:, 2].min() > size
        nearest = face.vertices[np.argmax(face.vertices[:, 2]), :2]           # the nose
        assert np.linalg.norm(nearest - truth.landmarks[30]) < 0.2 * size


def test_perfect_maps_give_the_faces_position_in_every_frame(video):
    found = followed(video, Maps(video))
    _near(video, found, 0.012)
    assert found[5][0].coefficients.shape == (284,) and found[5][0].confidence == 1


def test_an_empty_map_is_no_face(video):
    class Empty(Maps):
        def __call__(self, cut, state):
            self.output = np.zeros((96, 96, 4), np.float32)
            return uvnet.Follower.__call__(self, cut, state)
    assert [len(faces) for faces in followed(video, Empty(video), 3)] == [0] * 3


class Uncropped(Iterated):
    """Its network answers in the frame of the image that is given, not of the crop where the estimate lies."""

    def boxes(self, estimates):
        return [WHOLE] * len(estimates)


def test_a_perfect_iteration_gives_the_faces_position_in_every_frame(video):
    class Perfect(coarse.Follower):
        def __call__(self, cut, state):
            truth, = video.truth(cut.frame, hidden=False)
            self.answer = encode(video.identities, truth.expression[None],
                                 (truth.keypoints[None] - cut.box[:2]) / cut.box[2], 1.0)
            self.passes.append(0)
            return super().__call__(cut, state)

    def predict(inputs):
        network.passes[-1] += 1
        return network.answer
    network = Perfect(Uncropped(predict, 64, iterations=3), minmax, 1.3)
    network.passes = []
    found = followed(video, network)
    _near(video, found, 0.02)
    assert network.passes == [2] + [1] * 12         # settled after the second pass, then one a look
    np.testing.assert_allclose(found[7][0].coefficients[:200], video.identities[0], atol=1e-5)
    assert found[7][0].pose[3] == pytest.approx(video.camera.focal / 700, rel=0.15)


def test_one_answer_that_is_not_finite_is_no_face_and_ends_no_video(video):
    truth, = video.truth(0, hidden=False)

    def predict(inputs):
        predict.passes += 1
        answer = encode(video.identities, truth.expression[None], (truth.keypoints[None] - network.box[:2])
                        / network.box[2], 1.0)
        return answer * np.float32(np.nan if predict.passes == 6 else 1)
    predict.passes = 0

    class Torn(coarse.Follower):
        def __call__(self, cut, state):
            self.box = cut.box
            return super().__call__(cut, state)
    network = Torn(Uncropped(predict, 64, iterations=3), minmax, 1.3)
    still = [frame._replace(number=0, time=n / 30) for n, frame in enumerate(blank(video))]
    runner = FaceVideo(network, RAW, 1, detector(video, lambda: 0))
    found = [bool(runner(frame)) for frame in still[:6]]
    assert found.count(False) == 1 and found[0] and found[-1]       # lost in one frame, found again in the next
    assert runner.times.seconds["render"] > 0 and runner.times.seconds["network"] > 0       # timed apart
    network._follow.iterated.predict = lambda inputs: np.zeros((1, 7))
    with pytest.raises(ValueError, match="must give finite"):       # a network of another kind is refused
        FaceVideo(network, RAW, 1, detector(video, lambda: 0))(still[0])


def test_triangles_are_the_faces():
    model = Maps.__mro__[1](lambda image: image, 8)._model
    triangles = face_triangles(model)
    used = np.unique(triangles)
    assert 5000 < len(triangles) < 8000 and model.mean[used, 2].min() > -80


def test_the_weights_in_the_box_follow_a_rendered_face(video):
    from Network import from_preset
    network = from_preset("compact").follower()
    runner, near = FaceVideo(network, VideoConfig("none")), []
    for n in range(0, 12, 3):
        frame = video.frame(n)
        face, = runner(frame)
        truth = frame.faces[0]
        size = np.sqrt(np.ptp(truth.landmarks, axis=0).prod())
        near.append(np.linalg.norm(face.landmarks[17:] - truth.landmarks[17:], axis=1).mean() / size)
        assert np.isfinite(face.pose).all() and np.abs(face.pose[:3] - truth.pose[:3]).max() < 20
    assert np.mean(near) < 0.08


def test_a_network_without_keypoints_follows_nobody():
    from Network import mobile3model
    from Network.inference.registry import predictor_of
    from tests.test_streaming import TINY_THESIS, _loaded
    with pytest.raises(ValueError, match="^run: convlstm has no keypoints in a frame$"):
        predictor_of(_loaded(mobile3model, TINY_THESIS)).follower()
