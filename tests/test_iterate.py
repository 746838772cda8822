"""The iterative model with networks that know the truth: it converges, stops, holds a given pose, follows a video;
several photos become one subject."""
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import umeyama
from Dataset.representations import coefficients as c
from Dataset.representations.pncc import built_in_unit
from Dataset.synthesis.sidecar import model_hash
from Network.inference import coarse as module
from Network.inference.coarse import grid_of, identity_of, neutral, score_of
from Network.inference.iterate import WHOLE, FrameByFrame, Iterated
from Network.inference.photos import Crop, NoFace
from Network.inference.registry import predictor_of
from Network.engine.loaded import Loaded

MODEL, SIZE = load_face_model(), 32


def random_face(seed: int, expression: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    face = np.zeros(290, np.float32)
    face[c.IDENTITY], face[c.EXPRESSION] = MODEL.sample_identity(rng), MODEL.sample_expression(rng, expression)
    face[c.POSE] = rng.normal(0, (0.3, 0.15, 0.1, 0.05, 0.03, 0.03)) + (0, 0, 0, 0, 0, -0.1)
    return face


class Oracle(Iterated):
    """The iteration with a network that knows the truth of its images and goes `fraction` of the way there from the
    estimate that it is given, in the crop that it is given. Keeps its inputs and boxes."""

    def __init__(self, targets, *arguments, fraction: float = 1.0, **more) -> None:
        super().__init__(self.answer, SIZE, *arguments, **more)
        self.targets, self.fraction = np.reshape(targets, (-1, 290)), fraction
        self.seen, self.cut, self.known = [], [], []

    def inputs(self, images, estimates):
        self.cut, self.known = self.boxes(estimates), estimates
        self.seen.append(super().inputs(images, estimates))
        return self.seen[-1]

    def answer(self, x):
        return np.stack([c.recropped(known + self.fraction * (truth - known), WHOLE, box)
                         for truth, known, box in zip(self.targets, self.known, self.cut)])


IMAGE = np.zeros((SIZE, SIZE, 3), np.float32)


def test_a_network_that_says_the_truth_is_done_after_two_passes():
    truth = random_face(0)
    found = Oracle(truth, 5).run(IMAGE)
    assert found.converged and len(found.faces) == 3 and found.changes[1] < 1e-6 and found.changes[0] > 0.01
    np.testing.assert_array_equal(found.faces[0], c.mean_face())
    np.testing.assert_allclose(found.face, truth, atol=1e-6)


def test_a_network_that_goes_half_the_way_converges_since_it_sees_its_last_estimate():
    truth, network = random_face(1), Oracle(random_face(1), 6, 0.0, fraction=0.5)
    found = network.run(IMAGE)
    off = [np.abs(face - truth).max() for face in found.faces]
    np.testing.assert_allclose(np.array(off[1:]) / off[:-1], 0.5, atol=0.02)
    assert not found.converged and (np.diff(found.changes) < 0).all()
    for face, x in zip(found.faces, network.seen):      # the estimate before each pass, cropped where it lies
        np.testing.assert_allclose(x[0, ..., 3:], built_in_unit()(c.recropped(face, WHOLE, c.crop_at(face)), SIZE),
                                   atol=1e-6)
    # it ends as soon as a pass moves the face by less than is asked for
    early = Oracle(truth, 6, float(found.changes[2]) * 1.01, fraction=0.5).run(IMAGE)
    assert early.converged and len(early.changes) == 3


def test_every_pass_sees_the_image_where_the_last_one_found_the_face():
    """The image is the truth's own PNCC: from the second pass on it stands in the crop as START_POSE says."""
    truth = random_face(1)
    network = Oracle(truth, 3, 0.0)
    network.run(built_in_unit()(truth, 4 * SIZE)[..., :3])
    for x, estimate in zip(network.seen, (c.mean_face(), truth, truth)):
        shown = built_in_unit()(c.recropped(truth, WHOLE, c.crop_at(estimate)), SIZE)[..., :3]
        assert np.abs(x[0, ..., :3] - shown).mean() < 0.02


def test_without_feedback_there_is_one_pass_over_the_whole_image():
    truth = random_face(1)
    network = Oracle(truth, 4, 0.0, feedback=False)
    image = np.random.default_rng(0).random((SIZE, SIZE, 3), np.float32)
    found = network.run(image)
    assert len(found.faces) == 2 and network.seen[0].shape == (1, SIZE, SIZE, 3)
    np.testing.assert_allclose(network.seen[0][0], (image - image.min()) / np.ptp(image), atol=1e-6)
    np.testing.assert_allclose(found.face, truth, atol=1e-6)


def test_the_pose_can_be_held_and_expressions_stay_weights():
    truth = random_face(2)
    clutter = truth.copy()
    clutter[c.EXPRESSION] = np.linspace(-1, 2, 84)
    pose = truth[c.POSE] + np.float32(0.1)
    network = Oracle(clutter, 3)
    found = network.run(IMAGE, pose=pose)
    for face in found.faces:
        np.testing.assert_allclose(face[c.POSE], pose)
    assert found.face[c.EXPRESSION].min() == 0 and found.face[c.EXPRESSION].max() == 1
    start = c.mean_face(pose)
    np.testing.assert_allclose(network.seen[0][0, ..., 3:],
                               built_in_unit()(c.recropped(start, WHOLE, c.crop_at(start)), SIZE), atol=1e-6)


def test_many_images_at_once_are_the_single_ones():
    targets = np.stack([random_face(k) for k in range(3)])
    images = np.zeros((3, SIZE, SIZE, 3), np.float32)
    many = Oracle(targets, 2, 0.0, fraction=0.9).many(images)
    assert many.shape == (3, 3, 290)
    for i in range(3):
        np.testing.assert_allclose(many[:, i], Oracle(targets[i], 2, 0.0, fraction=0.9).run(images[i]).faces, atol=1e-5)
    held = Oracle(targets, 2).many(images, 1, targets[:, c.POSE])
    np.testing.assert_array_equal(held[1, :, c.POSE], targets[:, c.POSE])


def test_bad_answers_and_images_are_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        Iterated(lambda x: np.full((len(x), 290), np.nan), SIZE).run(IMAGE)
    with pytest.raises(ValueError, match="must give finite"):
        Iterated(lambda x: np.zeros((len(x), 7)), SIZE).run(IMAGE)
    with pytest.raises(ValueError, match="images must be"):
        Iterated(lambda x: np.zeros((len(x), 290)), SIZE).run(np.zeros((8, 9, 3)))
    with pytest.raises(ValueError, match="iterations and size"):
        Iterated(lambda x: x, SIZE, 0)


def test_a_video_is_followed_with_one_pass_a_frame_across_crops():
    """A head that stands still in the frame while its box moves: the guess is where the head is, whatever the box."""
    box, moved = (100, 100, 200, 200), (110, 96, 220, 220)
    truth = random_face(5)
    network = Oracle(truth, 3)
    follow = FrameByFrame(network).follow
    first = follow(IMAGE, box)
    assert len(network.seen) == 2 and first.change == np.inf           # it began with the mean face, then converged
    network.targets = c.recropped(truth, box, moved)[None]
    second = follow(IMAGE, moved, first)
    assert len(network.seen) == 3 and second.change < 1e-6
    # the head stands still: in its own crop the estimate is drawn as it was
    np.testing.assert_allclose(network.seen[2][..., 3:], network.seen[1][..., 3:], atol=2e-2)
    np.testing.assert_allclose(second.landmarks * 220 + moved[:2], first.landmarks * 200 + box[:2], atol=1e-3)
    assert second.keypoints.shape == (256, 2) and second.box == moved


def off(points: np.ndarray, identity: np.ndarray) -> float:
    """Mean distance of a neutral face from the true one after a similarity, of the mean face's."""
    truth = neutral(identity).astype(float)

    def distance(face):
        return np.linalg.norm(umeyama(face.astype(float), truth).apply(face.astype(float)) - truth, axis=1).mean()
    return distance(points) / distance(neutral(np.zeros(200)))


def photos_of(subject: np.ndarray, noise: float, count: int = 6) -> np.ndarray:
    """A subject's faces in photos as a network may see them: other pose and expression, identity with errors."""
    rng = np.random.default_rng(3)
    faces = np.stack([random_face(10 + k) for k in range(count)])
    faces[:, c.IDENTITY] = subject + rng.normal(0, noise, (count, 200))
    return faces


@pytest.mark.parametrize("fusion", ["mean", "joint"])
def test_photos_make_one_subject(fusion):
    subject = random_face(20)[c.IDENTITY]
    exact = identity_of(photos_of(subject, 0.0), fusion)
    assert off(neutral(exact), subject) < (1e-5 if fusion == "mean" else 0.45)
    one, all_ = (off(neutral(identity_of(photos_of(subject, 0.8, n), fusion)), subject) for n in (1, 6))
    assert all_ < 0.75 * one
    with pytest.raises(ValueError, match="at least one face"):
        identity_of([], fusion)


def test_a_profile_counts_less_than_a_frontal_photo():
    faces = np.zeros((2, 290), np.float32)
    faces[0, 0], faces[1, 0], faces[1, 284] = 1, 4, np.pi / 2
    assert identity_of(faces)[0] == pytest.approx((1 + 0.5 * 4) / 1.5, rel=2e-3)


def fake(faces: np.ndarray) -> Loaded:
    """A loaded network that says faces[i] of an image whose first pixel, of 255, is i."""
    import tensorflow as tf

    table = tf.constant(faces)

    def model(images, training):
        return tf.gather(table, tf.minimum(tf.cast(tf.round(255 * images[:, 0, 0, 0]), tf.int32), len(faces) - 1))
    config = {"network": "coarse", "model": {"image_size": SIZE, "feedback": False}}    # one pass, over all of it
    return Loaded(model, config, Path("fake"), 128 ** 2, SIZE, None, "grid")


def crop(number: int) -> Crop:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[-1, -1], image[0, 0] = 255, number
    return Crop(image, image, (0, 0, SIZE, SIZE), f"photo {number}", "frontal")


def test_a_stream_a_batch_and_prefixes_agree():
    subject = random_face(20)[c.IDENTITY]
    faces = photos_of(subject, 0.3, 3)
    loaded = fake(faces)
    stream, other = predictor_of(loaded), predictor_of(loaded)
    images = [crop(k).image for k in range(3)]
    prefixes = other.prefixes(images)
    for k in range(3):
        seen = stream.add(crop(k))
        np.testing.assert_allclose(seen.points, prefixes[k], atol=1e-6)
        np.testing.assert_allclose(seen.photo_points, grid_of(faces[k]), atol=1e-6)
        np.testing.assert_allclose(seen.keypoints, c.project(faces[k]), atol=1e-6)
        np.testing.assert_allclose(seen.landmarks, c.project(faces[k], "landmarks"), atol=1e-6)
        assert len(stream.passes()) == 2 and stream.count == k + 1
        points, landmarks, found = other.photo(images[k])
        assert found
        np.testing.assert_array_equal(points, seen.photo_points)
        np.testing.assert_array_equal(landmarks, seen.landmarks)
    np.testing.assert_allclose(other.subject(images), prefixes[-1], atol=1e-6)
    np.testing.assert_allclose(other.predict(other.inputs(images)[None])[0], prefixes[-1], atol=1e-6)
    stream.reset()
    np.testing.assert_allclose(stream.add(crop(1)).points, neutral(faces[1, c.IDENTITY]), atol=1e-6)


def test_a_face_off_its_position_is_recropped_and_its_passes_are_given_in_the_new_crop():
    far = random_face(7)
    far[c.POSE] = [0, 0, 0, -0.7, 0.1, 0.0]             # small: half as large as in training
    loaded, whole = fake(far[None]), np.zeros((300, 300, 3), np.uint8)
    whole[::3] = 90
    photo = whole[50:250, 50:250]
    first = Crop(photo[:SIZE, :SIZE], photo, (50, 50, 200, 200), "far", "frontal", whole)
    stream = predictor_of(loaded)
    box = stream.add(first).crop.box
    assert box[2] < 150
    # the network says the same of any crop: what it said of the first one is given as it lies in the second
    np.testing.assert_allclose(stream.passes()[1], c.recropped(far, first.box, box), atol=1e-5)
    np.testing.assert_allclose(stream.passes()[-1], far, atol=1e-6)
    np.testing.assert_allclose(stream.passes()[0], c.recropped(c.mean_face(), first.box, box), atol=1e-5)


def test_coefficients_of_another_face_model_are_refused(monkeypatch):
    """A run says whose coefficients it learned; older ones do not, and learned the built-in face's."""
    loaded = fake(random_face(3)[None])
    ours = loaded._replace(config={**loaded.config, "face_model": model_hash(MODEL)})
    theirs = loaded._replace(config={**loaded.config, "face_model": "c0ffee" * 10})
    for known in (loaded, ours):
        assert predictor_of(known).size == SIZE
    with pytest.raises(ValueError, match="^fake: its coefficients are of face model c0ffeec0ffee, this is .*--face"):
        predictor_of(theirs)
    other = dataclasses.replace(MODEL, mean=MODEL.mean + 1)
    monkeypatch.setattr(module, "load_face_model", lambda path=None: MODEL if path else other)
    for known in (loaded, ours):
        with pytest.raises(ValueError, match="its coefficients are of face model"):
            predictor_of(known)
    assert predictor_of(loaded._replace(config={**loaded.config, "face_model": model_hash(other)})).size == SIZE


def test_photos_are_fused_as_is_asked():
    """--fusion of demo.py and evaluate.py, the same way in all of them; another network has no such thing."""
    faces = photos_of(random_face(20)[c.IDENTITY], 0.5, 3)
    loaded, images = fake(faces), [crop(k).image for k in range(3)]
    for way in (None, "mean", "joint"):
        stream = predictor_of(loaded, fusion=way)
        expected = neutral(identity_of(faces, way or "mean"))
        np.testing.assert_allclose(stream.subject(images), expected, atol=1e-4)
        np.testing.assert_allclose(stream.prefixes(images)[-1], expected, atol=1e-4)
        stream.reset()
        found = [stream.add(crop(k)) for k in range(3)][-1]
        np.testing.assert_allclose(found.points, expected, atol=1e-4)
    assert np.abs(neutral(identity_of(faces, "joint")) - neutral(identity_of(faces))).max() > 0.005
    with pytest.raises(ValueError, match="^fusion must be one of mean, joint, got 'sum'$"):
        predictor_of(loaded, fusion="sum")


def test_an_answer_that_is_not_finite_costs_its_photo_alone():
    subject = random_face(20)[c.IDENTITY]
    faces = photos_of(subject, 0.3, 3)
    faces[1] = np.nan
    stream, images = predictor_of(fake(faces)), [crop(k).image for k in range(3)]
    kept = neutral(identity_of(faces[[0, 2]]))
    np.testing.assert_allclose(stream.subject(images), kept, atol=1e-6)
    prefixes = stream.prefixes([images[k] for k in (1, 0, 2)])
    np.testing.assert_allclose(prefixes, [neutral(np.zeros(200)), neutral(faces[0, c.IDENTITY]), kept], atol=1e-6)
    points, landmarks, found = stream.photo(images[1])
    assert landmarks is None and not found
    np.testing.assert_allclose(points, neutral(np.zeros(200)), atol=1e-6)
    stream.reset()
    stream.add(crop(0))
    pose = np.degrees(faces[0, c.POSE][:3])         # the crop is the image
    np.testing.assert_allclose(stream.face.pose_numbers[:3], pose, atol=1e-3)
    np.testing.assert_allclose(stream.face.pose_numbers[4:], (faces[0, c.POSE][4:] + 0.5) * SIZE, atol=1e-3)
    with pytest.raises(NoFace, match="photo 1: the network must give finite"):
        stream.add(crop(1))
    np.testing.assert_allclose(stream.add(crop(2)).points, kept, atol=1e-6)
    assert stream.count == 2


def test_other_networks_are_not_iterated():
    loaded = fake(np.zeros((1, 8, 3), np.float32))._replace(config={"network": "convlstm"}, images=1)
    with pytest.raises(ValueError, match="^iterations is not for convlstm; fake has no options$"):
        predictor_of(loaded, iterations=2)
    with pytest.raises(ValueError, match="^fake: convlstm is not iterated$"):
        predictor_of(loaded).run_iterations(2)


@pytest.mark.parametrize("second, score", [(0.0115, 1.0), (0.02, 0.0), (0.0115 ** 2 / 0.02, 2.0)])
def test_how_far_the_second_pass_moves_a_face_is_its_score(second, score):
    assert score_of(np.array([0.1, second, 0.5])) == pytest.approx(score)
    assert score_of(np.array([second])) == 1.0
