"""Network/calibration.py and calibrate.py: a known map is found, files, what a fitter makes of it, bad input."""
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.renders import RenderOptions
from Dataset.shards import make_shards, open_shards
from Dataset.sidecar import model_hash
from Dataset.transforms import umeyama
from Network import calibrate as command
from Network.calibrate import Fits, calibrate, calibrate_run, shape_error
from Network.calibration import FILE, Calibration, read_calibration, ridge_calibration, write_calibration
from Network.fitted import FITTERS, DepthFitter, Fitter, grid_of
from Network.loading import Loaded

MODEL = load_face_model()
COUNT = len(MODEL.identity)


def test_a_known_map_is_found():
    rng = np.random.default_rng(0)
    own, few = rng.normal(size=(2, 6, 6))
    fits, photos = rng.normal(size=(80, 6)), rng.integers(1, 6, 80)
    truths = np.stack([x @ (own + few / t) for x, t in zip(fits, photos)])
    found = ridge_calibration(fits, photos, truths, 0.0, "m")
    np.testing.assert_allclose(found.own, own, atol=1e-6)
    np.testing.assert_allclose(found.few, few, atol=1e-6)
    np.testing.assert_allclose(found.expected(fits[3], photos[3]), truths[3], atol=1e-6)
    still = ridge_calibration(fits, photos, truths, 1e9, "m")
    np.testing.assert_allclose(still.expected(fits[3], 2), fits[3], atol=1e-5)
    with pytest.raises(ValueError, match="nobody to calibrate with"):
        ridge_calibration(fits[:0], photos[:0], truths[:0], 1.0, "m")
    anchored = np.stack([x + (1 - 1 / t) * x @ own for x, t in zip(fits, photos)])
    found = ridge_calibration(fits, photos, anchored, 0.0, "m", one_is_right=True)
    np.testing.assert_allclose(found.expected(fits[3], 4), fits[3] + 0.75 * fits[3] @ own, atol=1e-6)
    found = ridge_calibration(fits, photos, truths, 0.1, "m", one_is_right=True)
    np.testing.assert_allclose(found.expected(fits[3], 1), fits[3], atol=1e-12)
    with pytest.raises(ValueError, match="of 6 coefficients, received"):
        found.expected(np.zeros(5), 1)


def made(people: int, seed: int) -> Fits:
    """Fits as a network gives them that draws all to the mean, half of it with one photo, less with more."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(size=(people, COUNT))
    rows = [(truths[p] * (1 - 0.5 / t) + rng.normal(0, 0.05, COUNT), truths[p], t)
            for p in range(people) for t in (1, 2, 3)]
    return Fits(*(np.array(column) for column in zip(*rows)))


def test_held_out_people_gain_and_a_fit_that_is_right_stays():
    found, about = calibrate(made(150, 1), made(12, 2), MODEL)
    assert about["one_after"] < 0.8 * about["one_before"] and about["all_after"] < 0.8 * about["all_before"] < 0.1
    assert about["rows"] == 450 and found.face == model_hash(MODEL)
    truths = made(12, 2).truths
    right = Fits(truths, truths, made(12, 2).photos)
    noise = Fits(truths, np.random.default_rng(3).permutation(truths), right.photos)       # nothing to be learnt
    _, about = calibrate(noise, right, MODEL)
    assert about["all_after"] < 0.01


def test_shape_error():
    truths = made(3, 4).truths
    assert shape_error(truths, truths, MODEL) < 1e-12
    assert shape_error(np.zeros_like(truths), truths, MODEL) == pytest.approx(1)


def test_files(tmp_path, monkeypatch):
    assert read_calibration(tmp_path) is None
    rng = np.random.default_rng(0)
    wanted = Calibration(rng.normal(size=(5, 5)), rng.normal(size=(5, 5)), model_hash(MODEL))
    path = write_calibration(tmp_path, wanted)
    assert path == tmp_path / FILE
    found, bytes_ = read_calibration(tmp_path), path.read_bytes()
    for ours, theirs in zip(found[:2], wanted[:2]):
        np.testing.assert_array_equal(ours, theirs.astype(np.float16))
    write_calibration(tmp_path, wanted._replace(face="another"))
    assert read_calibration(tmp_path) is None           # of other coefficients
    write_calibration(tmp_path, wanted)
    assert path.read_bytes() == bytes_                  # same arrays, same bytes
    for bad in (wanted._replace(few=np.zeros((5, 4))), wanted._replace(own=np.full((5, 5), np.nan))):
        write_calibration(tmp_path, bad)
        with pytest.raises(ValueError, match=f"{FILE}: want two finite square matrices"):
            read_calibration(tmp_path)
    monkeypatch.setattr("Network.calibration.VERSION", 1)
    write_calibration(tmp_path, wanted)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_calibration(tmp_path).own, found.own)        # fits were told the same way
    monkeypatch.setattr("Network.calibration.VERSION", 3)
    write_calibration(tmp_path, wanted)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"{FILE}: want version 2, received 3; make it anew"):
        read_calibration(tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{FILE}: holds no calibration of this program"):
        read_calibration(tmp_path)
    monkeypatch.setattr("Network.calibration.LARGEST", 10)
    write_calibration(tmp_path, wanted)
    with pytest.raises(ValueError, match="unpacks to"):
        read_calibration(tmp_path)


def test_a_fitter_gives_the_expected_person():
    """The neutral face is the expected one, the photo's own face stays what was fitted."""
    identity = 0.5 * MODEL.sample_identity(np.random.default_rng(5))        # as far as fits lie from the mean
    reading = np.concatenate([identity, MODEL.mean.ravel()])
    twice = Calibration(np.eye(COUNT), np.eye(COUNT), "")
    plain, calibrated = (DepthFitter(how).fit([reading]) for how in (None, twice))
    np.testing.assert_array_equal(plain.in_photo, calibrated.in_photo)
    wanted = grid_of(MODEL.shape(2 * identity), MODEL)
    np.testing.assert_allclose(umeyama(calibrated.points, wanted).apply(calibrated.points), wanted, atol=1e-4)
    np.testing.assert_array_equal(plain.points, grid_of(MODEL.shape(identity), MODEL))
    two = DepthFitter(twice).fit([reading, reading])
    wanted = grid_of(MODEL.shape(1.5 * identity), MODEL)
    np.testing.assert_allclose(umeyama(two.points, wanted).apply(two.points), wanted, atol=1e-4)
    assert all(isinstance(make(twice), Fitter) for make in FITTERS.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "faces"
    make_shards(out, RenderOptions(people=4, images=2, size=32, seed=6))
    return out


def loaded_as(folder, monkeypatch, output: np.ndarray, **config) -> None:
    """`load_model` gives a network that says the same of every picture."""
    import tensorflow as tf
    answer = tf.constant(output)
    config = {"network": "pix2pix", "shards": {"seed": 6}, "data": {"validation_people": 2}, **config}
    model = Loaded(lambda images, training: tf.repeat(answer[None], len(images), 0), config, folder, 128 ** 2, 32, None,
                   "grid")
    monkeypatch.setattr(command, "load_model", lambda run, which, calibrated: model)


def test_a_run_gets_its_file(folder, tmp_path, monkeypatch, capsys):
    loaded_as(tmp_path, monkeypatch, np.zeros((32, 32, 1), np.float32))
    seen = []

    class Reader(Fitter):
        def read(self, output):
            seen.append(output.shape)
            return np.full(COUNT, 0.1 * len(seen))

        def identity(self, photos, state=None):
            return np.mean(photos, axis=0), None
    monkeypatch.setitem(command.FITTERS, "pix2pix", Reader)
    assert command.main([str(tmp_path), str(folder), "--people", "2", "--held", "1"]) == 0
    assert len(seen) == 2 * 2 + 2 and read_calibration(tmp_path).own.shape == (COUNT, COUNT)
    assert "all photos" in capsys.readouterr().out


def test_bad_input(folder, tmp_path, monkeypatch):
    nothing = np.full((32, 32, 1), -1, np.float32)
    for config, message in (({"network": "compact"}, "only uvnet, pix2pix, vrn are fitted and coarse is averaged"),
                            ({"shards": {"seed": 7}}, "not the shards"),
                            ({"data": {"validation_people": 4}}, "people on both sides of number 4"),
                            ({}, "sees no face in any picture")):
        loaded_as(tmp_path, monkeypatch, nothing, **config)
        with pytest.raises(ValueError, match=message):
            calibrate_run(tmp_path, open_shards(folder))
        assert not (tmp_path / FILE).exists()
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path), str(folder), "--people", "0"])
