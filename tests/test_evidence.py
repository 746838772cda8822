"""Network/evidence.py and what a calibration makes of it: which numbers they are, places triangulated, Bayes' rule
against its twin, a person whom the fit does not know and the places do, streams and batches alike, files, bad input."""
import dataclasses

import keras
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.images import minmax
from Dataset.renders import RenderOptions
from Dataset.shards import make_shards, open_shards
from Dataset.sidecar import model_hash
from Network import compact, uvnet
from Network import calibrate as command
from Network.calibrate import Told, calibrate_told
from Network.calibration import FILE, Calibration, behind, read_calibration, told_map, world_of, write_calibration
from Network.evidence import BELIEVED, triangulated, with_evidence
from Network.fit_stream import FitPrefixes, FitStream
from Network.fitted import Fitter
from Network.loading import load_model
from Network.pack import pack
from Network.predict import NoFace
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
    assert evidence.shape == (2, 4 * 256 + 7)
    places, doubt, _ = (np.asarray(part) for part in keras.Model(
        model.input, model.get_layer("again_0").output)(images))
    offsets, sure = evidence[:, :768].reshape(2, 256, 3), evidence[:, 768:1024]
    rows, scale = evidence[:, -7:-1].reshape(2, 2, 3), evidence[:, -1]
    np.testing.assert_allclose(sure, 1 / (1 + np.exp(doubt)), atol=1e-5)
    np.testing.assert_allclose(rows @ rows.transpose(0, 2, 1), np.stack([np.eye(2)] * 2), atol=1e-3)
    # turned into the picture again they are what the camera does not explain, where that is not cut off
    template = np.asarray(model.get_layer("face_frame").template)
    seen = (places * [1, -1] - (places * [1, -1]).mean(1, keepdims=True)) / np.exp(scale)[:, None, None]
    missed = 20 * (seen - template @ rows.transpose(0, 2, 1))
    np.testing.assert_allclose(offsets @ rows.transpose(0, 2, 1), np.clip(missed, -6, 6), atol=0.02)


def test_networks_that_have_none():
    assert with_evidence(uvnet.build(uvnet.Config(image_size=16, levels=2, first_features=4))) is None
    assert with_evidence(compact.build_training(TINY)) is None
    assert with_evidence(lambda images, training: images) is None


def _photo(rng, offsets, sure):
    """The evidence of one photo of places (K, 3), from any side."""
    rows = np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]
    variance = (1 - sure) / sure / BELIEVED
    seen = offsets @ rows.T + rng.normal(size=(len(sure), 2)) * np.sqrt(variance)[:, None]
    return np.concatenate([(seen @ rows).ravel(), sure, rows.ravel(), [0.3]])


def test_places_are_triangulated():
    """Against the whole normal equations of each place, and one photo against the formula for it."""
    rng = np.random.default_rng(8)
    offsets, sure = rng.normal(size=(20, 3)), rng.uniform(0.1, 0.9, (4, 20))
    photos = np.stack([_photo(rng, offsets, each) for each in sure])
    found = triangulated(photos)
    for k in range(20):
        lines, right = [np.eye(3)], [np.zeros(3)]
        for photo in photos:
            rows, at = photo[-7:-1].reshape(2, 3), np.sqrt(BELIEVED * photo[60 + k] / (1 - photo[60 + k]))
            lines.append(at * rows)
            right.append(at * rows @ photo[3 * k:3 * k + 3])
        wanted = np.linalg.lstsq(np.concatenate(lines), np.concatenate(right), rcond=None)[0]
        np.testing.assert_allclose(found[3 * k:3 * k + 3], wanted, atol=1e-10)
    np.testing.assert_allclose(found[60:], photos[:, -7:].mean(0))
    precision = BELIEVED * sure[0] / (1 - sure[0])
    np.testing.assert_allclose(triangulated(photos[:1])[:60].reshape(20, 3),
                               photos[0, :60].reshape(20, 3) * (precision / (1 + precision))[:, None], atol=1e-9)
    certain = np.stack([_photo(rng, offsets, np.full(20, 1.0 - 1e-7)) for _ in range(2)])       # two lines of sight
    np.testing.assert_allclose(triangulated(certain)[:60].reshape(20, 3), offsets, atol=0.02)
    for bad in (photos[0], photos[:0], photos[:, 1:], np.zeros((2, 3))):
        with pytest.raises(ValueError, match="want the evidence"):
            triangulated(bad)


def _world(rng, people, n=4, features=6):
    shown, noise = rng.normal(size=(n, features)), rng.normal(size=(features, features))
    truths = rng.normal(size=(people, n))
    return truths, truths @ shown + 3 + rng.normal(size=(people, features)) @ noise, shown, noise


def test_bayes_rule_is_found():
    """The map of a world that is known: the regression of truths on evidence, in its other form (of the evidence's own
    covariance), from the numbers that made it."""
    truths, evidence, shown, noise = _world(np.random.default_rng(5), 200_000)
    for pull in (np.zeros(6), np.arange(6.0)):
        found = told_map(world_of(evidence, truths, len(truths)), pull)
        wanted = np.linalg.solve(shown.T @ shown + noise.T @ noise + np.diag(pull), shown.T)
        np.testing.assert_allclose(found[:-1], wanted, atol=0.01)
        np.testing.assert_allclose(found[-1], -3 * wanted.sum(0), atol=0.05)
    still = told_map(world_of(evidence, truths, len(truths)), np.full(6, 1e9))      # all noise: it tells nothing
    np.testing.assert_allclose(behind(still, evidence[:3]), 0, atol=1e-6)
    with pytest.raises(ValueError, match="nobody to calibrate with"):
        world_of(evidence[:0], truths[:0], 1)


def test_of_few_people_the_noise_is_not_too_small():
    """Four coefficients take their share of ten people's noise: without that, too much is believed."""
    differences = []
    for seed in range(200):
        truths, evidence, *_ = _world(np.random.default_rng(seed), 10)
        gain = told_map(world_of(evidence, truths, 10), np.zeros(6))[:-1]
        blind = told_map(world_of(evidence, truths, 10 ** 9), np.zeros(6))[:-1]
        differences.append(np.square(blind).sum() - np.square(gain).sum())
    assert np.mean(differences) > 0.1
    truths, evidence, shown, _ = _world(np.random.default_rng(9), 100_000)
    np.testing.assert_allclose(world_of(evidence, truths + 5, 1).shown, shown, atol=0.05)


def test_between_two_counts_and_beyond_them():
    rng = np.random.default_rng(1)
    told, y = rng.normal(size=(3, 8, 5)), rng.normal(size=7)
    calibration = Calibration(None, None, "", told, np.array([1, 2, 5]))
    one, two, five = (behind(each, y) for each in told)
    for photos, wanted in ((1, one), (2, two), (5, five), (9, five), (4, five + (two - five) * 0.05 / 0.3)):
        np.testing.assert_allclose(calibration.expected(np.zeros(0), photos, y), wanted, atol=1e-12)
    with pytest.raises(ValueError, match="of 7 numbers of evidence, received none"):
        calibration.expected(np.zeros(5), 1)
    with pytest.raises(ValueError, match=r"received \(3,\)"):
        calibration.expected(np.zeros(5), 1, np.zeros(3))


def _people(count, seed, shown):
    """Three photos each, the places that identities move, some of them hidden."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(size=(count, COUNT))
    places = (truths @ shown).reshape(count, -1, 3)
    return Told([np.stack([_photo(rng, each, rng.choice([0.02, 0.98], len(each))) for _ in range(3)])
                 for each in places], truths)


def test_people_are_found_by_their_places():
    shown = np.random.default_rng(1).normal(0, 0.3, size=(COUNT, 3 * 120))
    training, held = _people(400, 2, shown), _people(12, 3, shown)
    training.evidence[0] = np.repeat(training.evidence[0], 4, axis=0)       # one person of many photos makes no map
    for number in range(1, 150):
        training.evidence[number] = training.evidence[number][:1]
    found, about = calibrate_told(training, held, MODEL)
    assert found.counts.tolist() == [1, 2, 3] and found.told.shape == (3, 3 * 120 + 8, COUNT)
    assert found.face == model_hash(MODEL) and found.own is None and about["rows"] == 12 + 149 + 3 * 250
    assert about["all_after"] < 0.55 and about["one_after"] < 0.8


def test_which_photos_tell_together():
    rng = np.random.default_rng(2)
    photos = [np.stack([_photo(rng, rng.normal(size=(2, 3)), np.full(2, 0.5)) for _ in range(t)]) for t in (3, 1, 2)]
    told = Told(photos, np.array([[0.0], [1.0], [2.0]]))
    evidence, of = told.rows(2)
    assert of[:, 0].tolist() == [0, 0, 0, 2]
    for row, (whose, pair) in zip(evidence, ((0, [0, 1]), (0, [1, 2]), (0, [2, 0]), (2, [0, 1]))):
        np.testing.assert_allclose(row, triangulated(photos[whose][pair]))
    assert told.rows(1)[1][:, 0].tolist() == [0, 0, 0, 1, 2, 2] and told.rows(3)[1][:, 0].tolist() == [0]


@pytest.fixture
def loaded(person):         # noqa: F811
    """A network that says the truth's maps of four photos, whose places tell a number each, and a calibration that
    makes the true identity of their mean."""
    identity, _, maps, _ = person
    first = fake(maps)

    def telling(images, training):
        """One place, seen from the front; how sure it is, and where it lies, says the picture's number."""
        number = keras.ops.round(255 * images[:, 0, 0, :1])
        sure, zero = 0.2 * (1 + number), 0 * number
        front = [zero + 1, zero, zero, zero, zero + 1, zero]
        return [first.model(images, training), keras.ops.concatenate([number, zero, zero, sure, *front, zero], -1)]
    told = np.zeros((1, 11, COUNT))
    told[0, 0] = identity / OFF
    calibration = Calibration(None, None, model_hash(MODEL), told, np.array([1]))
    return first._replace(calibration=calibration, telling=telling)


PRECISION = BELIEVED * np.array([0.25, 2 / 3, 1.5, 4])              # of 0.2, 0.4, 0.6, 0.8 sure
OFF = (PRECISION @ np.arange(4)) / (1 + PRECISION.sum())            # where the place lies, of all four photos


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
    wanted = Calibration(None, None, model_hash(MODEL), np.random.default_rng(6).normal(size=(2, 8, 5)),
                         np.array([1, 3]))
    write_calibration(tmp_path, wanted)
    found = read_calibration(tmp_path)
    assert found.own is None and found.few is None and found.counts.tolist() == [1, 3] and found.face == wanted.face
    np.testing.assert_array_equal(found.told, wanted.told.astype(np.float16))
    for bad in (wanted._replace(told=np.zeros((8, 4))), wanted._replace(counts=np.array([3, 1])),
                wanted._replace(counts=np.array([1])), wanted._replace(told=np.full((2, 8, 5), np.inf)),
                wanted._replace(own=np.eye(5)), wanted._replace(told=None, counts=None)):
        write_calibration(tmp_path, bad)
        with pytest.raises(ValueError, match=rf"{FILE}: want .* finite maps \(K, F \+ 1, n\)"):
            read_calibration(tmp_path)
    for bad in ({"counts": np.array([1.2, 1.7])}, {"told": np.array(["a"])}, {"version": np.array(1)}):
        write_calibration(tmp_path, wanted)
        with np.load(tmp_path / FILE) as stored:
            arrays = {**stored, **bad}
        np.savez(tmp_path / FILE, **arrays)
        with pytest.raises(ValueError, match=f"{FILE}: (holds no calibration|want version 2, received 1)"):
            read_calibration(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "faces"
    make_shards(out, RenderOptions(people=5, images=3, size=32, seed=6, detect=0))
    return out


@pytest.mark.parametrize("places", [True, False])
def test_a_run_gets_its_file(folder, tmp_path, monkeypatch, capsys, places):
    """Of uvnet with places, what these tell; a picture without a face tells nothing; an old file is not in the way."""
    from Network.checkpoints import RunFolder
    config = GUIDED if places else uvnet.Config(image_size=32, levels=3, first_features=4)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.start({"network": "uvnet", "model": dataclasses.asdict(config), "order": "grid", "shards": {"seed": 6},
               "data": {"validation_people": 2}})
    keras.utils.set_random_seed(7)
    run.save_weights(uvnet.build_training(config), "best_validation")
    (run.path / FILE).write_bytes(b"nothing")
    seen = []

    class Reader(Fitter):
        def read(self, output):
            seen.append(output)
            if len(seen) % 3 == 2:          # each person's second picture
                raise NoFace("no face")
            return np.full(COUNT, 0.1)

        def identity(self, photos, state=None):
            return np.mean(photos, axis=0), None
    monkeypatch.setitem(command.FITTERS, "uvnet", Reader)
    known = []
    monkeypatch.setattr(command, "calibrate_told", lambda *some: known.extend(some) or calibrate_told(*some))
    with pytest.raises(ValueError, match=FILE):
        load_model(run.path)
    assert command.main([str(run.path), str(folder), "--people", "3", "--held", "2"]) == 0
    found = load_model(run.path).calibration
    assert len(seen) == 5 * 3 and "all photos" in capsys.readouterr().out
    if not places:
        assert found.told is None and not known
        return
    assert found.counts.tolist() == [1, 2] and found.told.shape == (2, 3 * 256 + 8, COUNT)
    training, held, _ = known
    shards = open_shards(folder)
    assert [len(one) for one in training.evidence] == [2] * 3 and len(held.evidence) == 2
    np.testing.assert_allclose(training.truths, shards.gather("identity", [2, 3, 4]), atol=1e-6)
    images = np.stack([minmax(image) for image in shards.gather("images", [3])[0]])[None]
    np.testing.assert_allclose(training.evidence[1], load_model(run.path).told(images)[1][0, [0, 2]], atol=1e-4)


@pytest.mark.parametrize("config", [GUIDED, uvnet.Config(image_size=32, levels=3, first_features=4)])
def test_a_folder_with_such_a_calibration(config, tmp_path):
    from Network.checkpoints import RunFolder
    run, rng = RunFolder(tmp_path / "run"), np.random.default_rng(7)
    run.path.mkdir()
    run.start({"network": "uvnet", "model": dataclasses.asdict(config), "order": "grid"})
    keras.utils.set_random_seed(7)
    run.save_weights(uvnet.build_training(config), "best_validation")
    calibration = Calibration(None, None, model_hash(MODEL), rng.normal(size=(1, 3 * 256 + 8, COUNT)), np.array([1]))
    write_calibration(run.path, calibration)
    if not config.places:
        with pytest.raises(ValueError, match="asks for the evidence of places, which this network does not find"):
            load_model(run.path)
        return
    pack(load_model(run.path), tmp_path / "box")
    packed, images = load_model(tmp_path / "box"), rng.random((1, 2, 32, 32, 3)).astype(np.float32)
    answers, evidence = packed.told(images)
    assert answers.shape == (1, 2, 32, 32, 6) and evidence.shape == (1, 2, 4 * 256 + 7)
    assert packed.calibration.told.shape == (1, 3 * 256 + 8, COUNT)
