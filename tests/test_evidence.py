"""Network/evidence.py and what a calibration makes of it: which numbers they are, a known map, a person whom the fit
does not know and the places do, streams and batches alike, files, bad input."""
import dataclasses

import keras
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.sidecar import model_hash
from Network import compact, uvnet
from Network.calibrate import Fits, calibrate
from Network.calibration import (FILE, Calibration, one_photo, read_calibration, ridge_calibration, told_map,
                                 write_calibration)
from Network.evidence import with_evidence
from Network.fit_stream import FitPrefixes, FitStream
from Network.loading import load_model
from Network.pack import pack
from tests.test_compact import TINY
from tests.test_fitted import crop, fake, off, person          # noqa: F401 (a fixture)
from tests.test_uvnet import GUIDED

MODEL = load_face_model()
COUNT = len(MODEL.identity)


def test_the_numbers_are_how_the_places_lie():
    keras.utils.set_random_seed(3)
    model = uvnet.inference(uvnet.build_training(GUIDED))
    uvnet.set_template(model, np.random.default_rng(3).normal(size=(256, 3)))
    head = model.get_layer("again_0_correction")        # an untrained network sees every place in one spot
    head.set_weights([np.random.default_rng(3).normal(0, 5, w.shape) for w in head.get_weights()])
    images = np.random.default_rng(4).random((2, 32, 32, 3), np.float32)
    maps, evidence = (np.asarray(part) for part in with_evidence(model)(images))
    np.testing.assert_array_equal(maps, np.asarray(model(images)))
    assert evidence.shape == (2, 6 * 256 + 7)
    places, doubt, _ = (np.asarray(part) for part in keras.Model(
        model.input, model.get_layer("again_0").output)(images))
    offsets, rows, scale = evidence[:, :-7].reshape(2, 256, 2, 3), evidence[:, -7:-1].reshape(2, 2, 3), evidence[:, -1]
    sure = 1 / (1 + np.exp(doubt))
    np.testing.assert_allclose(offsets[:, :, 1], offsets[:, :, 0] * sure[..., None], atol=1e-5)
    np.testing.assert_allclose(rows @ rows.transpose(0, 2, 1), np.stack([np.eye(2)] * 2), atol=1e-3)
    # turned into the picture again they are what the camera does not explain, where that is not cut off
    template = np.asarray(model.get_layer("face_frame").template)
    seen = (places * [1, -1] - (places * [1, -1]).mean(1, keepdims=True)) / np.exp(scale)[:, None, None]
    missed = 20 * (seen - template @ rows.transpose(0, 2, 1))
    np.testing.assert_allclose(offsets[:, :, 0] @ rows.transpose(0, 2, 1), np.clip(missed, -6, 6), atol=0.02)


def test_networks_that_have_none():
    assert with_evidence(uvnet.build(uvnet.Config(image_size=16, levels=2, first_features=4))) is None
    assert with_evidence(compact.build_training(TINY)) is None
    assert with_evidence(lambda images, training: images) is None


def _people(count, seed, told):
    """Evidence (3 photos each) that says who it is, but for noise, and fits that say nothing."""
    rng = np.random.default_rng(seed)
    truths = np.repeat(rng.normal(size=(count, COUNT)), 3, axis=0)
    evidence = truths @ told + rng.normal(0, 0.7, (3 * count, told.shape[1]))
    means = np.cumsum(evidence.reshape(count, 3, -1), axis=1) / np.arange(1, 4)[:, None]
    return Fits(rng.normal(0, 0.3, truths.shape), truths, np.tile([1, 2, 3], count), means.reshape(3 * count, -1),
                evidence, np.repeat(np.arange(count), 3))


def test_places_tell_what_a_fit_does_not_know():
    told = np.random.default_rng(1).normal(size=(COUNT, 250))
    training, held = _people(200, 2, told), _people(12, 3, told)
    found, about = calibrate(training, held, MODEL)
    assert found.told.shape == (251, COUNT) and found.face == model_hash(MODEL)
    assert about["all_after"] < about["one_after"] < 0.4 and about["one_before"] > 0.9
    # 600 photos for 251 numbers: what the map makes of those whom it has learnt says little of the others
    seen = one_photo(found.told, training.evidence)
    believed = ridge_calibration(training.fits, training.photos, training.truths, 0.01, "m", told=found.told, seen=seen)
    one = held.photos == 1

    def error(calibration):
        return np.square(np.stack([calibration.expected(held.fits[i], 1, held.evidence[i])
                                   for i in np.flatnonzero(one)]) - held.truths[one]).mean()
    assert error(found) < error(believed)
    alone, blind = calibrate(training._replace(evidence=None), held._replace(evidence=None), MODEL)
    assert alone.told is None and blind["all_after"] > 0.9
    with pytest.raises(ValueError, match="of 250 numbers of evidence, received none"):
        found.expected(held.fits[0], 1)
    with pytest.raises(ValueError, match=r"received \(3,\)"):
        found.expected(held.fits[0], 1, np.zeros(3))


def test_whose_photos_and_rows_they_are():
    truths = np.array([[1.0], [1.0], [2.0], [3.0], [3.0]])
    alone = np.arange(6.0)[:, None], np.array([0, 0, 1, 2, 2, 2])
    fits = Fits(truths, truths, np.array([1, 2, 1, 1, 3]), truths, *alone)
    assert fits.person().tolist() == [0, 0, 1, 2, 2]
    evidence, of = fits.alone(np.array([True, False, True]))
    assert evidence[:, 0].tolist() == [0, 1, 3, 4, 5] and of[:, 0].tolist() == [1, 1, 3, 3, 3]


def test_a_known_map_is_found():
    rng = np.random.default_rng(5)
    told, evidence = rng.normal(size=(5, 3)), rng.normal(size=(90, 4))
    photos, fits = rng.integers(1, 6, 90), rng.normal(size=(90, 3))
    np.testing.assert_allclose(told_map(evidence, one_photo(told, evidence), 0.0), told, atol=1e-6)
    own, few, told_own, told_few = rng.normal(size=(4, 3, 3))
    wanted = Calibration(own, few, "m", told, told_own, told_few)
    truths = np.stack([wanted.expected(*row) for row in zip(fits, photos, evidence)])
    seen = one_photo(told, evidence)
    found = ridge_calibration(fits, photos, truths, 0.0, "m", told=told, seen=seen)
    for ours, theirs in zip(found, wanted):
        if not isinstance(ours, str):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    still = ridge_calibration(fits, photos, truths, 1e9, "m", told=told, seen=seen)
    np.testing.assert_allclose(still.expected(fits[3], 2, evidence[3]), one_photo(told, evidence[3]), atol=1e-5)


@pytest.fixture
def loaded(person):         # noqa: F811
    """A network that says the truth's maps of four photos, whose places tell a number each, and a calibration that
    makes the true identity of their mean."""
    identity, _, maps, _ = person
    first = fake(maps)

    def telling(images, training):
        numbers = keras.ops.round(255 * images[:, 0, 0, :1])
        return [first.model(images, training), keras.ops.concatenate([numbers, numbers ** 2], axis=-1)]
    square = np.zeros((COUNT, COUNT))
    told = np.stack([0 * identity, identity / 3.5, 0 * identity])       # of 0, 1, 4, 9 the mean is 3.5
    calibration = Calibration(square, square, model_hash(MODEL), told, np.eye(COUNT), square)
    return first._replace(calibration=calibration, telling=telling)


def test_streams_and_batches_hear_the_places(person, loaded):         # noqa: F811
    identity, images = person[0], np.stack([crop(i).image for i in range(4)]).astype(np.float32) / 255
    face = loaded.predict(images[None])[0]
    assert off(face, identity) < 1e-3
    assert off(loaded.predict(images[None, :3])[0], identity) > 0.2         # of three the mean is another
    assert off(loaded._replace(calibration=None, telling=None).predict(images[None])[0], identity) > 0.05
    np.testing.assert_array_equal(loaded.answers(images[None]), loaded.told(images[None])[0])
    np.testing.assert_allclose(FitPrefixes(loaded)(images[None])[0, -1], face, atol=1e-6)
    stream = FitStream(loaded)
    for i in range(4):
        found = stream.add(crop(i))
    assert off(found.points, identity) < 1e-3
    fitted = FitStream(loaded._replace(calibration=None, telling=None))
    for i in range(4):
        raw = fitted.add(crop(i))
    np.testing.assert_array_equal(found.landmarks, raw.landmarks)           # where it lies is what was seen,
    assert np.abs(found.in_photo - raw.in_photo).max() > 0.01               # what it is like is what is expected:
    assert off(found.in_photo, identity) > 0.02                             # with its expression


def test_files(tmp_path):
    rng = np.random.default_rng(6)
    wanted = Calibration(*rng.normal(size=(2, 5, 5)), model_hash(MODEL), rng.normal(size=(8, 5)),
                         *rng.normal(size=(2, 5, 5)))
    write_calibration(tmp_path, wanted)
    for ours, theirs in zip(read_calibration(tmp_path), wanted):
        np.testing.assert_array_equal(ours, theirs if isinstance(theirs, str) else theirs.astype(np.float16))
    for bad in (wanted._replace(told=np.zeros((8, 4))), wanted._replace(told_own=np.zeros((4, 5))),
                wanted._replace(told_few=np.full((5, 5), np.inf))):
        write_calibration(tmp_path, bad)
        with pytest.raises(ValueError, match=f"{FILE}: want a finite map of evidence to 5 coefficients"):
            read_calibration(tmp_path)


@pytest.mark.parametrize("config", [GUIDED, uvnet.Config(image_size=32, levels=3, first_features=4)])
def test_a_folder_with_such_a_calibration(config, tmp_path):
    from Network.checkpoints import RunFolder
    run, rng = RunFolder(tmp_path / "run"), np.random.default_rng(7)
    run.path.mkdir()
    run.start({"network": "uvnet", "model": dataclasses.asdict(config), "order": "grid"})
    keras.utils.set_random_seed(7)
    run.save_weights(uvnet.build_training(config), "best_validation")
    calibration = Calibration(*np.zeros((2, COUNT, COUNT)), model_hash(MODEL), rng.normal(size=(6 * 256 + 8, COUNT)),
                              *np.zeros((2, COUNT, COUNT)))
    write_calibration(run.path, calibration)
    if not config.places:
        with pytest.raises(ValueError, match="asks for the evidence of places, which this network does not find"):
            load_model(run.path)
        return
    pack(load_model(run.path), tmp_path / "box")
    packed, images = load_model(tmp_path / "box"), rng.random((1, 2, 32, 32, 3)).astype(np.float32)
    answers, evidence = packed.told(images)
    assert answers.shape == (1, 2, 32, 32, 6) and evidence.shape == (1, 2, 6 * 256 + 7)
    assert packed.calibration.told.shape == (6 * 256 + 8, COUNT)
