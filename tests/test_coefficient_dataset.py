"""Batches for the coarse network: what is drawn, that truth and images belong together, determinism, bad input."""
import dataclasses

import numpy as np
import pytest

from Datagenerator.loading.epoch import Shard
from Datagenerator.sequences.coefficients import (CoefficientConfig, CoefficientSequence, iteration_samples,
                                                  make_coefficient_sequences, perturbed)
from Dataset.face_model.model import load_face_model
from Dataset.representations import coefficients as c
from Dataset.representations.pncc import built_in_unit

PLAIN = CoefficientConfig(batch_size=6, batches=3, validation_subjects=3, image_size=32, augment=False)


class Made:
    """Subjects whose images are their own PNCC, seen in weak perspective: images say the truth."""

    path, images, size = "made", 2, 48

    def __init__(self, count: int = 8):
        rng, model = np.random.default_rng(0), load_face_model()
        self.subjects = np.arange(count)
        self.truth = np.zeros((count, 2, 290), np.float32)
        self.truth[..., c.IDENTITY] = rng.normal(0, 1, (count, 1, 200))
        for one in self.truth.reshape(-1, 290):
            one[c.EXPRESSION] = model.sample_expression(rng)
            one[c.POSE] = rng.normal(0, (0.4, 0.2, 0.2, 0.1, 0.05, 0.05))
        flat = self.truth.reshape(-1, 290)
        drawn = built_in_unit().many(flat, 48)[..., :3]
        self.arrays = {"images": np.rint(255 * drawn).astype(np.uint8), "identity": self.truth[:, 0, :200],
                       "image_points": np.stack([c.project(x, "keypoints", 48) for x in flat]).astype(np.float32),
                       "expression": flat[:, c.EXPRESSION], "visible": np.ones((len(flat), 256), bool)}
        for name in ("images", "image_points", "expression", "visible"):
            self.arrays[name] = self.arrays[name].reshape(count, 2, *self.arrays[name].shape[1:])

    def __len__(self):
        return len(self.subjects)

    def gather(self, name, subjects, images=None):
        rows = self.arrays[name][subjects]
        return rows.copy() if images is None else rows[np.arange(len(subjects)), images].copy()


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def apart_where_shown(image: np.ndarray, target: np.ndarray, truth: np.ndarray) -> float:
    """Mean difference between a crop of an image of PNCC and the PNCC of its target, where the crop shows the image:
    beyond it the border is continued. target: `truth` of the whole image in that crop."""
    side = np.exp(truth[287] - target[287])
    corner = truth[288:290] + 0.5 - side * (target[288:290] + 0.5)
    size = len(image)
    x, y = (corner[:, None] + side * (np.arange(size) + 0.5) / size)
    shown = ((y > 0) & (y < 1))[:, None] & ((x > 0) & (x < 1))[None]
    assert shown.mean() > 0.4
    return float(np.abs(image[..., :3] - built_in_unit()(target, size)[..., :3])[shown].mean())


def test_the_truth_is_that_of_the_image(made):
    training, held = make_coefficient_sequences(made, PLAIN)
    for sequence, subjects in ((training, range(3, 8)), (held, range(3))):
        x, y = sequence.batch(0, 0)
        assert x.shape == (6, 32, 32, 9) and x.dtype == y.dtype == np.float32 and y.shape == (6, 290)
        assert x.min() > -1e-6 and x.max() < 1 + 1e-6
        for image, truth in zip(x, y):
            apart = np.abs(made.truth - truth)[..., c.SHAPE].max(-1)
            subject, number = np.unravel_index(apart.argmin(), apart.shape)
            assert apart.min() < 5e-4 and subject in subjects
            # the image is PNCC: in the crop, too, it equals the PNCC drawn from the target
            assert apart_where_shown(image, truth, made.truth[subject, number]) < 0.03


def test_a_batch_depends_on_seed_epoch_and_index_alone(made):
    config = dataclasses.replace(PLAIN, augment=True)
    first, again = (make_coefficient_sequences(made, config)[0] for _ in range(2))
    again.batch(4, 0)
    (x, y), (x2, y2) = first.batch(1, 2), again.batch(1, 2)
    assert np.array_equal(x, x2) and np.array_equal(y, y2)
    other = [first.batch(1, 1)[0], first.batch(2, 2)[0],
             make_coefficient_sequences(made, dataclasses.replace(config, seed=1))[0].batch(1, 2)[0]]
    assert not any(np.array_equal(x, o) for o in other)


def test_workers_share_a_batch(made):
    training = make_coefficient_sequences(made, dataclasses.replace(PLAIN, augment=True))[0]
    x, y = training.batch(0, 1)
    parts = [training.batch(0, 1, Shard(i, 3)) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate([part[0][..., :3] for part in parts]), x[..., :3])
    np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), x, atol=2e-2)     # a product's rounding
    np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), y, atol=1e-5)
    with pytest.raises(ValueError, match="too small for 7 workers"):
        training.check_shard(Shard(0, 7))


def test_augmentation_moves_the_pose_with_the_image(made):
    training = make_coefficient_sequences(made, dataclasses.replace(PLAIN, augment=True, start=1.0))[0]
    x, y = training.batch(0, 0)
    start = built_in_unit()(c.mean_face(), 32)
    np.testing.assert_allclose(x[..., 3:], np.broadcast_to(start, x[..., 3:].shape), atol=1e-3)
    moved = [np.abs(made.truth[..., 284:] - t[284:]).max(-1).min() for t in y]
    assert min(moved) > 1e-3 and max(moved) < 0.5
    same = [np.abs(made.truth[..., :284] - t[:284]).max(-1).min() for t in y]
    assert max(same) < 1e-6


def test_the_crop_follows_the_perturbed_geometry(made, monkeypatch):
    """An estimate a fifth too large and beside the face: the image is cut about it, and the target moves as the image
    does: a landmark's pixel is the one that it was."""
    wrong = np.array([0.1, 0, 0, np.log(1.2), 0.06, -0.04], np.float32)

    def estimated(truth, other, rng, config):
        estimate = truth.copy()
        estimate[c.POSE] += wrong
        return estimate
    monkeypatch.setattr("Datagenerator.sequences.coefficients.perturbed", estimated)
    held = make_coefficient_sequences(made, PLAIN)[1]
    x, y = held.batch(0, 0)
    for image, target, truth in zip(x, y, made.truth[:3].transpose(1, 0, 2).reshape(6, 290)):
        # in its crop an estimate has START_POSE's scale and position
        np.testing.assert_allclose(target[c.POSE][:3], truth[c.POSE][:3], atol=1e-3)
        assert target[287] == pytest.approx(-np.log(1.2), abs=1e-3)
        side = np.exp(truth[287]) * 1.2
        np.testing.assert_allclose(target[288:290], np.array([0, -0.1]) - wrong[4:] / side, atol=1e-3)
        estimate = target.copy()
        estimate[c.POSE] = target[c.POSE][:3].tolist() + list(c.START_POSE[3:])
        estimate[284] += 0.1
        assert np.abs(image[..., 3:] - built_in_unit()(estimate, 32)).mean() < 2e-3
        column, row = c.project(target, "landmarks", 32)[30].astype(int)         # the tip of the nose
        np.testing.assert_allclose(image[row, column, :3], built_in_unit()(target, 32)[row, column, :3], atol=0.1)
        assert apart_where_shown(image, target, truth) < 0.03 < apart_where_shown(image, truth, truth)


def test_the_first_pass_sees_the_detectors_crop(made):
    assert c.crop_at(c.mean_face()) == pytest.approx((0, 0, 1, 1), abs=1e-6)
    clutter = c.mean_face()
    clutter[287:] = 100, -50, 50
    assert np.isfinite(c.crop_at(clutter)).all() and c.crop_at(clutter)[2] == pytest.approx(np.exp(1.5))


def test_without_feedback_it_is_the_image_alone_as_it_was_cut(made):
    held = make_coefficient_sequences(made, dataclasses.replace(PLAIN, feedback=False))[1]
    x, y = held.batch(0, 0)
    assert x.shape == (6, 32, 32, 3) and held.shapes == ((None, 32, 32, 3), (None, 290))
    np.testing.assert_allclose(y, made.truth[:3].transpose(1, 0, 2).reshape(6, 290), atol=5e-4)


def config(**changes) -> CoefficientConfig:
    return dataclasses.replace(PLAIN, **changes)


def test_the_guess_is_between_truth_and_q():
    truth, other = np.ones(290, np.float32), np.full(290, 3, np.float32)
    fractions = []
    for seed in range(300):
        estimate = perturbed(truth, other, np.random.default_rng(seed), config(start=0.0, mean_q=0.0, p_min=0.5))
        fraction = (3 - estimate[:284]) / 2           # p, of every coefficient alike
        assert np.ptp(fraction) < 1e-5
        fractions.append(fraction[0])
    assert 0.5 <= min(fractions) < 0.53 and 0.97 < max(fractions) <= 1 and abs(np.mean(fractions) - 0.75) < 0.03
    toward = perturbed(truth, other, np.random.default_rng(1), config(start=0.0, mean_q=1.0, start_pose=1.0, p_min=0))
    p = toward[0]
    np.testing.assert_allclose(toward[:284], p, rtol=1e-5)                  # q is the mean face: zeros
    np.testing.assert_allclose(toward[284:], p + (1 - p) * np.array(c.START_POSE), rtol=1e-4)


def test_p_of_one_is_the_truth_and_start_is_the_mean_face():
    truth, other = np.ones(290, np.float32), np.zeros(290, np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(perturbed(truth, other, rng, config(start=0.0, p_min=1.0)), truth)
    np.testing.assert_array_equal(perturbed(truth, other, rng, config(start=1.0)), c.mean_face())


def test_images_for_the_table_of_iterations(made):
    batches = list(iteration_samples(made, 32, 3, 2, 4))
    assert [len(x) for x, _ in batches] == [4, 2]
    targets = np.concatenate([y for _, y in batches])
    np.testing.assert_allclose(targets, made.truth[:3].reshape(6, 290), atol=5e-4)
    with pytest.raises(ValueError, match="asked for 9 with 2"):
        next(iteration_samples(made, 32, 9))


def test_validation_shows_each_of_its_subjects(made):
    held = make_coefficient_sequences(made, PLAIN)[1]
    assert len(held) == 1 and held.shapes == ((None, 32, 32, 9), (None, 290))
    seen = {int(np.abs(made.truth[:, 0, :200] - t[:200]).max(1).argmin()) for t in held.batch(0, 0)[1]}
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("change, what", [({"p_min": 1.5}, "p_min must be"), ({"start": -0.1}, "start must be"),
                                          ({"batch_size": 0}, "batch_size must be"), ({"seed": -1}, "seed must be"),
                                          ({"image_size": 9999}, "image_size must be")])
def test_bad_settings_are_refused(change, what):
    with pytest.raises(ValueError, match=what):
        config(**change)


def test_small_images_and_missing_subjects_are_refused(made):
    with pytest.raises(ValueError, match="holds images of 48 px, fewer than image_size 64"):
        CoefficientSequence(made, made.subjects, config(image_size=64), True)
    with pytest.raises(ValueError, match="0 subjects to train on"):
        make_coefficient_sequences(made, config(validation_subjects=8))
