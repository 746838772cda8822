"""`compact` makes no monster: wrong keypoints and odd photos keep the face within what subjects look like.

The keypoints are those that the bundled network finds in the first two photos of eight test subjects (seed 9001),
`python -m tests.robustness_data` wrote them; photos that its training never shows are rendered here.
"""
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import Network
from Datagenerator.augmentation.augment import AugmentConfig, Sample, augment
from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import umeyama
from Dataset.synthesis.framing import predict_box
from Dataset.synthesis.hair_and_clothes import MOUTH, TEETH
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.scene import RenderContext, SceneSubject, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance
from Network.inference.photos import NoFace, square_crop
from Network.readout import estimate, subject
from Network.readout.estimate import MAX_TYPICALITY, estimate_photo, face_keypoints
from Network.readout.model import read_keypoint_model
from Network.readout.outliers import MISFIT, noise_variance
from Network.readout.subject import SubjectReadout
from Network.engine.loaded import DEFAULT_MODEL
from tests.robustness_data import FILE

SUBJECTS, PHOTOS = 8, 2


@pytest.fixture(scope="module")
def model():
    return read_keypoint_model(DEFAULT_MODEL)


@pytest.fixture(scope="module")
def predictor():
    return Network.from_preset("compact")


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    """keypoints (8, 2, 256, 2) crop sides, log_variance (8, 2, 256), identity (8, 200)."""
    with np.load(FILE) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}


def distance(estimated: np.ndarray, identity: np.ndarray) -> float:
    """Mean distance (mm) of the keypoints of two neutral faces, identities (200,), after a similarity."""
    face = face_keypoints(load_face_model())
    a, b = (face.keypoints(np.pad(one, (0, 84))) for one in (estimated, identity))
    return float(np.linalg.norm(umeyama(a, b).apply(a) - b, axis=1).mean())


def patch(size: float):
    """keypoints (256, 2) -> the same with a 3x3 block moved by `size` crop sides."""
    def change(keypoints, rng):
        row, column, angle = *rng.integers(0, 14, 2), rng.uniform(0, 2 * np.pi)
        block = ((row + np.arange(3))[:, None] * 16 + column + np.arange(3)).ravel()
        keypoints[block] += size * np.array([np.cos(angle), np.sin(angle)])
        return keypoints
    return change


def shuffled(count: int):
    """keypoints (256, 2) -> the same with `count` of them in another order."""
    def change(keypoints, rng):
        some = rng.choice(256, count, replace=False)
        keypoints[some] = keypoints[rng.permutation(some)]
        return keypoints
    return change


def noisy(sigma: float):
    return lambda keypoints, rng: keypoints + sigma * rng.standard_normal(keypoints.shape)


# the error's bound: ratio to the mean face's
@pytest.mark.parametrize("change, bound", [
    (lambda keypoints, rng: keypoints, 0.82), (patch(0.05), 0.82), (patch(0.1), 0.82), (patch(0.15), 0.82),
    (shuffled(64), 0.82), (shuffled(128), 1.05), (shuffled(256), 1.12), (noisy(0.005), 0.88), (noisy(0.01), 0.91),
    (noisy(0.02), 0.97), (noisy(0.05), 1.01), (noisy(0.3), 1.03)],
    ids="clean patch_5% patch_10% patch_15% quarter_shuffled half_shuffled all_shuffled noise_0.5% noise_1% noise_2% "
        "noise_5% noise_30%".split())
def test_wrong_keypoints_make_no_monster(model, found, change, bound):
    """Each photo alone, and all photos of a subject, every one of them changed."""
    rng, alone, subjects, baseline = np.random.default_rng(0), [], [], []
    for p in range(SUBJECTS):
        fused = SubjectReadout(model)
        for t in range(PHOTOS):
            keypoints = change(found["keypoints"][p, t].copy(), rng)
            photo = SubjectReadout(model).add(keypoints, found["log_variance"][p, t])
            fused.add(keypoints, found["log_variance"][p, t])
            assert photo.typicality <= 1.5
            alone.append(distance(photo.identity, found["identity"][p]))
        identity, typicality = fused.subject()
        assert typicality <= 1.5
        subjects.append(distance(identity, found["identity"][p]))
        baseline.append(distance(np.zeros(200), found["identity"][p]))
    assert np.mean(alone) < bound * np.mean(baseline)
    assert np.mean(subjects) < bound * np.mean(baseline)


def test_one_bad_photo_of_two_costs_little(model, found):
    """Noise of 20 % of the crop in one photo: the subject stays where the other photo sees it."""
    rng, apart = np.random.default_rng(1), []
    for p in range(SUBJECTS):
        alone, both = SubjectReadout(model), SubjectReadout(model)
        alone.add(found["keypoints"][p, 0], found["log_variance"][p, 0])
        both.add(found["keypoints"][p, 0], found["log_variance"][p, 0])
        both.add(noisy(0.2)(found["keypoints"][p, 1], rng), found["log_variance"][p, 1])
        apart.append([distance(both.subject()[0], alone.subject()[0]), distance(np.zeros(200), alone.subject()[0])])
    near, far = np.mean(apart, axis=0)
    assert near < 0.4 * far


def test_noise_variance_is_recovered(model, found):
    """The variance of noise that was added to a field, and 0 of the field itself."""
    rng, face = np.random.default_rng(2), face_keypoints(load_face_model())
    clean = [estimate_photo(model, face, one, np.zeros(256)).noise for one in found["keypoints"].reshape(-1, 256, 2)]
    assert clean == [0.0] * len(clean)
    values, basis = np.linalg.eigh(model.precision)
    field = basis @ (rng.standard_normal((256, 2)) / np.sqrt(values)[:, None])      # of the model itself
    assert np.vdot(field, model.precision @ field) / 512 < 1.5 < MISFIT and noise_variance(field, model.precision) == 0
    for variance in (0.03, 1.0, 30.0):
        noise = noise_variance(field + np.sqrt(variance) * rng.standard_normal((256, 2)), model.precision)
        assert noise == pytest.approx(variance, rel=0.35)


@pytest.mark.parametrize("count", [1, 3, 8, 20])
@pytest.mark.parametrize("size", [3.0, 5.0, 8.0, 12.0])
def test_keypoints_of_a_face_beyond_all_subjects_make_no_monster(model, found, count, size):
    """A smooth error, which no roughness betrays: the largest coefficients at `size` standard deviations."""
    far, keypoints = beyond(model, found, count, size)
    readout = SubjectReadout(model)
    photo = readout.add(keypoints, found["log_variance"][0, 0])
    assert 0.5 < photo.typicality <= min(far, MAX_TYPICALITY) and readout.subject()[1] == photo.typicality


def test_beyond_the_bound_there_is_a_warning_and_a_safer_face(model, found, caplog, monkeypatch):
    """No keypoints were found that lead there, so the bound is lowered. First more noise is assumed (estimate.py),
    then the identity is shrunk (subject.py)."""
    _, keypoints = beyond(model, found, 8, 5.0)
    face, log_variance = face_keypoints(load_face_model()), found["log_variance"][0, 0]
    far = estimate_photo(model, face, keypoints, log_variance)
    assert face.typicality(far.coefficients[:200]) > 1.6 and not caplog.text
    monkeypatch.setattr(estimate, "MAX_TYPICALITY", 1.3)
    safer = estimate_photo(model, face, keypoints, log_variance)
    assert face.typicality(safer.coefficients[:200]) <= 1.3 and safer.noise > far.noise
    assert re.search(r"1\.\d times as far from the mean face as an average subject: its keypoints are taken as noisy",
                     caplog.text)
    caplog.clear()
    monkeypatch.setattr(estimate, "MAX_TYPICALITY", 0.0)
    monkeypatch.setattr(subject, "MAX_TYPICALITY", 0.1)
    readout = SubjectReadout(model)
    photo = readout.add(keypoints, log_variance)
    assert photo.typicality == pytest.approx(0.1) and readout.subject()[1] == pytest.approx(0.1)
    assert "shrunk to 0.1" in caplog.text


def beyond(model, found, count: int, size: float) -> tuple[float, np.ndarray]:
    """Typicality of a face whose `count` largest coefficients are `size`, and its keypoints (256, 2)."""
    face, far = face_keypoints(load_face_model()), np.zeros(200)
    far[np.argsort(face.extent)[-count:]] = size
    pose = estimate_photo(model, face, found["keypoints"][0, 0], found["log_variance"][0, 0]).pose
    return face.typicality(far), pose.project(face.keypoints(np.pad(far, (0, 84))))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_photo_without_finite_keypoints_has_no_face_and_the_run_goes_on(predictor, found, wrong, monkeypatch):
    predictor.reset()
    answers = found["keypoints"][0].copy()
    bad = answers[1].copy()
    bad[17, 1] = wrong
    image, now = np.zeros((128, 128, 3), np.uint8), [answers[0]]
    monkeypatch.setattr(predictor, "_run", lambda images: {"keypoints": now[0][None],
                                                           "log_variance": np.full((1, 256), -2.0)})
    first = predictor.add(square_crop(image, 128))
    now[0] = bad
    with pytest.raises(NoFace, match="not finite"):
        predictor.add(square_crop(image, 128))
    assert predictor.count == 1 and predictor.face is first
    now[0] = answers[1]
    second = predictor.add(square_crop(image, 128))
    assert predictor.count == 2 and 0 < second.typicality < MAX_TYPICALITY
    with pytest.raises(NotFittable, match="must be finite"):
        predictor.new_readout().add(bad, np.zeros(256))


def twice(config: AugmentConfig) -> AugmentConfig:
    """Augmentation at twice its strength: probabilities and lengths doubled, ranges twice as far from no change."""
    return dataclasses.replace(
        config, scale=(0.8, 1.25), shift=0.14, rotation=24.0, blob=0.5, blob_cover=(0.1, 0.7), hand=0.2, bar=0.16,
        max_covered=0.7, exposure=(-1.6, 1.6), gain_sd=0.08, gamma=(0.49, 2.1), contrast=(0.4, 1.5), shuffle=0.12,
        grey=0.16, blur=0.3, blur_sigma=(0.8, 3.2), motion=0.16, motion_length=(6.0, 16.0), coarse=0.4,
        coarse_factor=(0.15, 0.4), jpeg=0.6, jpeg_quality=(5, 45), noise=(0.0, 32.0), noise_end=(0.0, 10.0))


@pytest.fixture(scope="module")
def context() -> RenderContext:
    return RenderContext(load_face_model())


def rendered(context: RenderContext, number: int, units: dict[str, float], teeth: bool = True
             ) -> tuple[np.ndarray, np.ndarray]:
    """A frontal photo (128, 128, 3) uint8 of test subject `number` with expression units, and the identity (200,).
    teeth: False paints them as the mouth's inside, as a gap is seen."""
    rng, model = np.random.default_rng([9001, number, 0]), context.model
    identity = model.sample_identity(rng).astype(np.float32)
    posed_subject = SceneSubject(context, identity, sample_appearance(rng))
    if not teeth:
        posed_subject.materials = np.where(posed_subject.materials == TEETH, MOUTH, posed_subject.materials)
    expression = np.zeros(84, np.float32)
    for name, weight in units.items():
        expression[model.expression_names.index(name)] = weight
    posed = posed_subject.set(sample_view(np.random.default_rng([9001, number, 2]), expression, angles=np.zeros(3)))
    x, y, width, _ = predict_box(posed)
    side = width * RenderOptions.margin
    box = (x + (width - side) / 2, y + (width - side) / 2, side, side)
    return posed.render(view_camera(posed.view).crop(box, 128)), identity


@pytest.mark.parametrize("what, bound", [("plain", 0.95), ("closed eyes", 0.97), ("missing teeth", 0.97),
                                         ("augmentation at twice its strength", 1.02)])
def test_odd_photos_make_no_monster(predictor, context, what, bound):
    rng, errors, baseline = np.random.default_rng(4), [], []
    units = {"closed eyes": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, "missing teeth": {"jawOpen": 0.6}}
    for number in range(4):
        image, identity = rendered(context, number, units.get(what, {}), what != "missing teeth")
        images = [image]
        if what.startswith("augmentation"):
            images = [augment(Sample(image, np.zeros((0, 2), np.float32), np.zeros(0, bool)), rng,
                              twice(AugmentConfig()), other=image[:, ::-1].copy()).image for _ in range(8)]
        for one in images:
            predictor.reset()
            try:
                predictor.add(square_crop(one, 128))
            except NoFace:          # an answer, too
                continue
            photo = predictor._estimate
            assert photo.typicality <= 1.5
            errors.append(distance(photo.identity, identity))
            baseline.append(distance(np.zeros(200), identity))
    assert len(errors) >= 3 and np.mean(errors) < bound * np.mean(baseline)


def test_the_file_of_keypoints_is_small():
    assert Path(FILE).stat().st_size < 64 * 1024


@pytest.mark.parametrize("far, limit", [(-50.0, -8.0), (-8.1, -8.0), (6.1, 6.0), (50.0, 6.0)])
def test_a_log_variance_counts_as_its_clipped_value(model, found, far, limit):
    """Of a few keypoints, beside which the others have theirs: neither overrules, nor is lost in, the others."""
    face, keypoints = face_keypoints(load_face_model()), found["keypoints"][0, 0]
    stated = np.full(256, -1.0)
    for value in (far, limit):
        stated[::7] = value
        estimated = estimate_photo(model, face, keypoints, stated)
        if value == far:
            first = estimated
    np.testing.assert_array_equal(first.coefficients, estimated.coefficients)
    for one, other in zip(first.pose, estimated.pose):
        np.testing.assert_array_equal(one, other)
    stated[::7] = -1.0
    assert np.abs(estimate_photo(model, face, keypoints, stated).coefficients - first.coefficients).max() > 1e-6
