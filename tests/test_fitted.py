"""From what per-pixel networks say to a subject: true maps in, the subject out; no face; photo by photo; files."""
import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import umeyama
from Dataset.representations.depth import encode_depth
from Dataset.representations.points import grid_of
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext
from Network.engine.loaded import Loaded
from Network.inference.dense import MAX_PHOTOS, mean_identity
from Network.inference.photos import Crop, NoFace
from Network.inference.registry import predictor_of
from Network.inference.uvnet import FIT, pixel_weights

MODEL = load_face_model()


@pytest.fixture(scope="module")
def subject():
    """identity (200,), images (4, 128, 128, 3), true answers of uvnet (4, 128, 128, 4), of pix2pix (4, 128, 128, 1)."""
    options = RenderOptions(subjects=1, images=4, size=128, seed=77, yaw=25, pitch=10, roll=10, detect=0, clutter=0,
                            glasses=0, buffers=("uv", "mask", "visible_mask", "depth"))
    found = render_subject(0, options, RenderContext(MODEL, threads=1))
    maps = np.concatenate([np.nan_to_num(found["uv"].astype(np.float32)),
                           np.stack([found["mask"], found["visible_mask"]], -1).astype(np.float32)], -1)
    depth = np.stack([encode_depth(d, m, focal) for d, m, focal in
                      zip(found["depth"], found["visible_mask"], found["camera"][:, 0])])
    return found["identity"], found["images"], maps, depth


def off(points: np.ndarray, identity: np.ndarray) -> float:
    """Mean distance of an ordered face from the true one after a similarity, of the mean face's."""
    truth = grid_of(MODEL.shape(identity), MODEL).astype(np.float64)

    def distance(face: np.ndarray) -> float:
        face = face.astype(np.float64)
        return np.linalg.norm(umeyama(face, truth).apply(face) - truth, axis=1).mean()
    return distance(points) / distance(grid_of(np.asarray(MODEL.mean, float), MODEL))


def fake(outputs: np.ndarray, network: str = "uvnet") -> Loaded:
    """A loaded network that says outputs[i] of an image whose first pixel, of 255, is i; the rest is 0 and 255."""
    import tensorflow as tf

    table = tf.constant(outputs)

    def model(images, training):
        numbers = tf.cast(tf.round(255 * images[:, 0, 0, 0]), tf.int32)
        return tf.gather(table, tf.minimum(numbers, len(outputs) - 1))
    return Loaded(model, {"network": network}, Path("fake"), 128 ** 2, outputs.shape[1], None, "grid")


def subject_of(outputs: np.ndarray, network: str = "uvnet") -> np.ndarray:
    """The neutral face of one subject's dense predictions (T, S, S, C)."""
    return predictor_of(fake(outputs, network)).subject([crop(t, outputs.shape[1]).image for t in range(len(outputs))])


def crop(number: int, size: int = 128) -> Crop:
    image = np.zeros((size, size, 3), np.uint8)
    image[-1, -1], image[0, 0] = 255, number
    return Crop(image, image, (0, 0, size, size), f"photo {number}", "frontal")


@pytest.mark.parametrize("components, limit", [(FIT.components, 0.39), (200, 0.35)])
def test_true_maps_give_the_subject(subject, monkeypatch, components, limit):
    """As they are fitted, with fewer components than exact maps would pay for, and with all of the model's."""
    monkeypatch.setattr("Network.inference.uvnet.FIT", dataclasses.replace(FIT, components=components))
    identity, _, maps, _ = subject
    one, four = (off(subject_of(maps[:count]), identity) for count in (1, 4))
    assert one < 0.6 and four < limit and four < one


def test_a_photo_with_an_expression_gives_both_faces_and_where_it_is(subject):
    identity, _, maps, _ = subject
    fitter = predictor_of(fake(maps))
    face = fitter.fit([fitter.read(answer) for answer in maps])
    assert face.points.shape == face.photo_points.shape == (128 ** 2, 3) and face.landmarks.shape == (68, 2)
    found = maps[-1, ..., 2] > 0.5
    rows, columns = np.nonzero(found)
    low, high = np.array([columns.min(), rows.min()]) / 128, np.array([columns.max() + 1, rows.max() + 1]) / 128
    assert face.keypoints.shape == (256, 2)
    np.testing.assert_allclose(face.keypoints.min(0), low, atol=0.04)
    np.testing.assert_allclose(face.keypoints.max(0), high, atol=0.04)


def test_pixel_weights_are_inverse_variances_in_pixels():
    rows, columns = np.mgrid[:32, :32]
    uv = np.stack([columns / 64, 1 - rows / 32], -1).astype(np.float32)     # a pixel shows 1/64 x 1/32 of the atlas
    uv[:4] = np.nan
    log_variance = np.full((32, 32, 2), np.log(0.02 ** 2), np.float32)
    weights = pixel_weights(uv, log_variance)
    # one pixel moves the position by 1/64 in u and 1/32 in v: 0.02 of the atlas is sqrt(64 * 32) * 0.02 px
    np.testing.assert_allclose(weights[6:-1, 1:-1], 1 / (0.02 ** 2 * 64 * 32), rtol=1e-5)
    log_variance[:4] = np.nan
    assert (pixel_weights(uv, log_variance)[:4] == 0).all() and np.isfinite(pixel_weights(uv, log_variance)).all()


def test_uncertain_pixels_count_less(subject):
    """The map is wrong on half of the face: with a large variance there the subject is found, with a small one not."""
    identity, _, maps, _ = subject
    wrong = maps.copy()
    wrong[:, 64:, :, :2] = np.clip(wrong[:, 64:, :, :2] + 0.06, 0, 1)
    confident = np.full((*maps.shape[:-1], 2), np.log(0.004 ** 2), np.float32)
    uncertain = confident.copy()
    uncertain[:, 64:] = np.log(0.2 ** 2)
    misled, corrected = (off(subject_of(np.concatenate([wrong, d], -1)), identity)
                         for d in (confident, uncertain))
    assert corrected < 0.75 < misled


def test_depth_gives_the_subject(subject):
    identity, _, _, depth = subject
    fitter = predictor_of(fake(depth, "pix2pix"))
    face = fitter.fit([fitter.read(answer) for answer in depth])
    assert off(face.points, identity) < 0.8
    assert face.keypoints is None and face.photo_points.shape == (128 ** 2, 3)


@pytest.mark.parametrize("network, empty", [("uvnet", np.zeros((128, 128, 4), np.float32)),
                                            ("pix2pix", np.full((128, 128, 1), -1, np.float32)),
                                            ("vrn", np.full((64, 64, 68), -5, np.float32)),
                                            ("uvnet", np.full((128, 128, 4), np.nan, np.float32))])
def test_no_face(network, empty, subject):
    predictor = predictor_of(fake(empty[None], network))
    with pytest.raises((NoFace, NotFittable)):
        predictor.read(empty)
    np.testing.assert_array_equal(subject_of(empty[None], network), grid_of(np.asarray(MODEL.mean, float), MODEL))
    with pytest.raises(NoFace, match="^photo 0: no face"):
        predictor.add(crop(0, len(empty)))
    assert predictor.face is None and predictor.count == 0


def test_photo_by_photo_comes_to_what_all_at_once_comes_to(subject):
    identity, _, maps, _ = subject
    stream = predictor_of(fake(maps))
    faces = [stream.add(crop(number)).points for number in range(4)]
    assert stream.count == 4
    errors = [off(face, identity) for face in faces]
    assert errors[3] < errors[0]
    images = [crop(number).image for number in range(4)]
    at_once = stream.predict(stream.inputs(images)[None])[0]
    # the fit goes on from the last one and stops when it is settled: not to the digit
    assert np.linalg.norm(at_once - faces[3], axis=1).max() < 0.03
    np.testing.assert_array_equal(stream.prefixes(images)[3], at_once)
    np.testing.assert_array_equal(stream.subject(images), at_once)
    stream.reset()
    np.testing.assert_allclose(stream.add(crop(0)).points, faces[0], atol=1e-6)


def test_what_stands_before_the_face_is_not_painted_onto_it(subject):
    """A magenta bar across the true map, which says so: no point of the face takes its colour, and next to it the skin
    keeps the photo's. A photo that is hidden altogether colours nothing."""
    _, images, maps, _ = subject
    bar, photo = np.zeros((128, 128), bool), images[3].copy()
    bar[58:70] = True
    photo[bar] = (255, 0, 255)
    hidden = maps[3:].copy()
    hidden[..., 3] *= ~bar

    def texture(answer: np.ndarray, shown: np.ndarray) -> np.ndarray:
        return predictor_of(fake(answer)).add(crop(0)._replace(photo=shown)).texture.image()

    def barred(colours: np.ndarray) -> np.ndarray:
        blue, green, red = np.moveaxis(colours.astype(int), -1, 0)
        return (blue > green + 60) & (red > green + 60)
    plain, masked, unmasked = texture(maps[3:], images[3]), texture(hidden, photo), texture(maps[3:], photo)
    assert not barred(plain).any() and barred(unmasked).mean() > 0.02 and not barred(masked).any()
    same = np.abs(masked.astype(int) - plain).max(-1) < 10
    assert 0.5 < same.mean() < 0.97
    hidden[..., 3] = 0
    assert texture(hidden, photo) is None


def test_a_photo_without_a_face_changes_nothing(subject):
    _, _, maps, _ = subject
    stream = predictor_of(fake(np.concatenate([maps[:2], np.zeros_like(maps[:1])])))
    stream.add(crop(0))
    with pytest.raises(NoFace):
        stream.add(crop(2))
    assert stream.count == 1
    other = predictor_of(fake(maps[:2]))
    other.add(crop(0))
    np.testing.assert_array_equal(stream.add(crop(1)).points, other.add(crop(1)).points)


def test_the_memory_is_bounded(subject, monkeypatch):
    _, _, maps, _ = subject
    monkeypatch.setattr("Network.inference.dense.MAX_PHOTOS", 3)
    assert MAX_PHOTOS == 16
    stream = predictor_of(fake(maps))
    for number in range(6):
        face = stream.add(crop(number % 4))
    assert len(stream._readings) == 3 and stream.count == 6 and np.isfinite(face.points).all()


def test_photos_without_a_face_are_skipped_by_the_demo(subject, tmp_path, monkeypatch, caplog, capsys):
    import cv2

    import demo
    from Dataset.io.inputs import example_image
    _, _, maps, _ = subject
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), example_image().image)
    empty = fake(np.zeros((256, 128, 128, 4), np.float32))
    monkeypatch.setattr("Network.inference.registry.load", lambda path, *_: empty)
    with caplog.at_level(logging.WARNING):
        assert demo.main([str(photo), "-o", str(tmp_path / "face.ply")]) == 2
    assert "no face in any of the photos" in capsys.readouterr().err
    assert "photo.png: no face: the network sees none; skipped" in caplog.text
    assert {file.name for file in tmp_path.iterdir()} == {"photo.png"}


@pytest.mark.parametrize("view", ["inverse", "lines"])
def test_views_beside_the_face(view, subject, tmp_path, monkeypatch, capsys):
    """The demo on a fake network that sees the same face in any crop."""
    import cv2

    import demo
    from Dataset.io.inputs import example_image
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), example_image().image)
    maps = np.repeat(subject[2][:1], 256, 0)
    monkeypatch.setattr("Network.inference.registry.load", lambda path, *_: fake(maps))
    assert demo.main([str(photo), "-o", str(tmp_path / "face.ply"), "--view", view]) == 0
    drawn = cv2.imread(str(tmp_path / f"face_{view}.png"))
    assert drawn is not None and drawn.std() > 10
    monkeypatch.setattr("Network.inference.registry.load", lambda path, *_: fake(subject[3], "pix2pix"))
    assert demo.main([str(photo), "-o", str(tmp_path / "face.ply"), "--view", view]) == 2
    assert f"--view {view} is not of pix2pix (fake), which has depth, cloud" in capsys.readouterr().err


def test_a_fit_that_went_wrong_does_not_count():
    rng = np.random.default_rng(0)
    good = [direction * 5 / np.linalg.norm(direction) for direction in rng.normal(size=(2, 200))]
    wrong = 19 * good[0] / 5
    np.testing.assert_allclose(mean_identity([good[0], wrong, good[1]]), (good[0] + good[1]) / 2)
    assert not mean_identity([wrong, wrong]).any()
