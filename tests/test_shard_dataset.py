"""Shards -> batches: who is in them, where keypoints lie after all that moves them, targets on the template."""
import dataclasses
import shutil

import numpy as np
import pytest

from Datagenerator.augmentation.augment import Sample
from Datagenerator.dataset import DataConfig
from Datagenerator.loading.pipeline import make_pipeline
from Datagenerator.sequences.coefficients import CoefficientConfig
from Datagenerator.sequences.keypoints import PointConfig, ShardConfig, make_sequences, mirror, mirror_grid
from Datagenerator.source import data_config, open_source, subject_set
from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import to_unit_sphere, umeyama
from Dataset.representations.points import encode
from Dataset.representations.targets import Targets
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from Dataset.synthesis.sidecar import model_hash

CONFIG = ShardConfig(max_images=2, batch_images=4, batches=3, validation_subjects=2, image_size=32, points=256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "subjects"
    make_shards(path, RenderOptions(subjects=8, images=2, size=32, seed=5, detect=0.0))
    return path


@pytest.fixture(scope="module")
def sequences(folder):
    return make_sequences(open_shards(folder), CONFIG)


def _same(a, b):
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for key in a[1]:
        np.testing.assert_array_equal(a[1][key], b[1][key])


def test_shapes_and_ranges(sequences):
    training, validation = sequences
    assert len(training) == 3 and list(validation.subjects) == [0, 1] and list(training.subjects) == [2, 3, 4, 5, 6, 7]
    seen = set()
    for index in range(3):
        x, y = training.batch(0, index)
        subjects, images = x.shape[:2]
        seen.add(images)
        assert x.shape[2:] == (32, 32, 3) and subjects == 4 // images and x.dtype == np.float32
        assert abs(x.min()) < 1e-6 and abs(x.max() - 1) < 1e-6
        assert set(y) == {"keypoints", "seen"} and y["keypoints"].shape == (subjects, images, 256, 2)
        assert set(np.unique(y["seen"])) <= {0, 1}
        assert 0.1 < y["keypoints"].mean() < 0.9
    assert seen <= {1, 2}


def test_a_batch_depends_on_seed_epoch_and_index_alone(sequences, folder):
    training = sequences[0]
    _same(training.batch(1, 2), make_sequences(open_shards(folder), CONFIG)[0].batch(1, 2))
    other = make_sequences(open_shards(folder), dataclasses.replace(CONFIG, seed=1))[0]
    subjects = [tuple(s.draw(e, i)[0]) for s in (training, other) for e in range(3) for i in range(3)]
    assert len(set(subjects)) > 9


def test_pipeline_gives_the_same_from_any_batch(sequences):
    training = sequences[0]
    for start, (x, y) in enumerate(make_pipeline(training, 2, 1), start=1):
        _same((np.asarray(x), {k: np.asarray(v) for k, v in y.items()}), training.batch(2, start))


def test_held_out_images_are_as_they_were_rendered(sequences, folder):
    validation, shards = sequences[1], open_shards(folder)
    subjects, chosen, _ = validation.draw(0, 1)
    x, y = validation.batch(0, 1)
    image = shards.gather("images", subjects[:1], chosen[:1])[0, 0].astype(np.float32)
    np.testing.assert_allclose(x[0, 0], (image - image.min()) / np.ptp(image), atol=1e-6)
    np.testing.assert_allclose(y["keypoints"][0, 0], shards.gather("image_points", subjects[:1], chosen[:1])[0, 0] / 32)


def test_smaller_images_keep_the_keypoints(folder):
    small = make_sequences(open_shards(folder), dataclasses.replace(CONFIG, image_size=16))[1].batch(0, 1)
    whole = make_sequences(open_shards(folder), CONFIG)[1].batch(0, 1)
    np.testing.assert_array_equal(small[1]["keypoints"], whole[1]["keypoints"])
    assert small[0].shape[2] == 16
    with pytest.raises(ValueError, match="must be a multiple of image_size 24"):
        make_sequences(open_shards(folder), dataclasses.replace(CONFIG, image_size=24))


def test_targets_are_the_subjects_face_on_the_template(folder):
    model = load_face_model()
    identity = open_shards(folder).gather("identity", np.arange(3))
    targets = Targets(model, 256)
    template = targets.make_template(identity)
    assert np.linalg.norm(template, axis=1).max() == pytest.approx(1, abs=1e-6)
    for subject, truth in zip(identity, targets(identity)):
        face = encode(model.shape(subject), 16).reshape(-1, 3)
        np.testing.assert_allclose(targets.raw(subject[None])[0], face, atol=1e-3)
        moved = umeyama(face, template)
        assert np.abs(moved.apply(face) - truth).max() < 0.01          # fitted on fewer points
        turned = umeyama(truth, template)
        assert abs(turned.scale - 1) < 0.01 and np.abs(turned.rotation - np.eye(3)).max() < 0.01


def test_mirrored_keypoints_are_the_mirrored_faces():
    """Mirroring a rendered face's keypoints equals projecting the mirrored face."""
    model = load_face_model()
    rng = np.random.default_rng(0)
    face = encode(model.shape(model.sample_identity(rng)), 16).reshape(-1, 3)
    turn = np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    back = np.array([[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])         # the mirrored head turns the other way

    def project(points, rotation):
        return (points @ rotation.T)[:, :2] * (0.2, -0.2) + 16
    sample = Sample(np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8),
                    project(face, turn).astype(np.float32), np.arange(256) % 16 < 4)
    mirrored = mirror(sample)
    np.testing.assert_allclose(mirrored.points, project(mirror_grid(face), back), atol=0.01)
    np.testing.assert_array_equal(mirrored.image, sample.image[:, ::-1])
    assert mirrored.visible.reshape(16, 16)[:, -4:].all() and mirrored.visible.sum() == 64
    for a, b in zip(mirror(mirrored), sample):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_mirrored_subject_is_the_mirrored_target(folder):
    """Of the same batch with and without mirroring: some subjects are left for right, images, keypoints and points."""
    configs = [dataclasses.replace(CONFIG, augment=False, mirror=mirrored) for mirrored in (False, True)]
    plain, half = (make_sequences(open_shards(folder), config)[0] for config in configs)
    shapes = [make_sequences(open_shards(folder), PointConfig(**dataclasses.asdict(config)))[0] for config in configs]
    turned = 0
    for index in range(3):
        (a, truth), (b, found) = plain.batch(0, index), half.batch(0, index)
        (_, points), (_, mirrored) = (sequence.batch(0, index) for sequence in shapes)
        for i in range(len(a)):
            if np.array_equal(a[i], b[i]):
                np.testing.assert_array_equal(mirrored[i], points[i])
                continue
            turned += 1
            np.testing.assert_array_equal(b[i], a[i][:, :, ::-1])
            np.testing.assert_allclose(mirrored[i], mirror_grid(points[i]))
            columns = truth["keypoints"][i].reshape(-1, 16, 16, 2)[:, :, ::-1].reshape(-1, 256, 2)
            np.testing.assert_allclose(found["keypoints"][i], columns * (-1, 1) + (1, 0), atol=1e-6)
    assert 0 < turned < 7


def test_points_alone(folder):
    """For `convlstm`: the same batches, whose target is the points, in order on the grid."""
    config = PointConfig(**dataclasses.asdict(CONFIG))
    for points, whole in zip(make_sequences(open_shards(folder), config), make_sequences(open_shards(folder), CONFIG)):
        assert points.shapes == (whole.shapes[0], (None, 256, 3)) and len(points) == len(whole)
        seen = set()
        for index in range(len(points)):
            (x, y), (images, _) = points.batch(0, index), whole.batch(0, index)
            np.testing.assert_array_equal(x, images)
            assert y.shape == (len(x), 256, 3) and 0.1 < np.abs(y).mean() < 1
            seen.add(x.shape[1])
        assert seen == {1, 2}
    for (x, y), index in zip(make_pipeline(points, 0), range(len(points))):
        np.testing.assert_array_equal(np.asarray(y), points.batch(0, index)[1])


def test_convlstm_reads_shards_and_subject_folders(folder, tmp_path):
    assert data_config("points", folder, ["batch_images", "mirror"]) is PointConfig
    assert data_config("points", tmp_path, ["images", "repeats"]) is DataConfig
    with pytest.raises(ValueError, match="repeats may be set for subject folders only"):
        data_config("points", folder, ["repeats"])
    with pytest.raises(ValueError, match="batch_images may be set for shards only"):
        data_config("points", tmp_path, ["batch_images"])
    source = open_source(folder, "train-test", PointConfig(**dataclasses.asdict(CONFIG)))
    assert source.model == {"crop_margin": 1.15} and source.template.shape == (256, 3)
    assert source.about["order"] == "grid"


def test_source_and_subjects(folder):
    source = open_source(folder, "train-test", CONFIG)
    assert source.about["subjects"] == {"validation": "numbers below 2"} and source.about["shards"]["seed"] == 5
    assert source.model == {"crop_margin": 1.15} and source.template.shape == (256, 3)
    subjects = subject_set(folder, 32, 256)
    assert subjects.targets.shape == (8, 256, 3) and subjects.images(3).shape == (2, 32, 32, 3)
    assert len(subjects.digest) == 64
    mean = to_unit_sphere(encode(load_face_model().mean, 16).reshape(-1, 3))[0]
    np.testing.assert_allclose(subjects.constant, mean, atol=1e-5)
    for truth in subjects.targets:         # in the constant's frame and size: metrics without scale mean something
        assert abs(umeyama(truth, subjects.constant).scale - 1) < 0.01
    with pytest.raises(ValueError, match="holds images of 32 px, the model takes 64"):
        subject_set(folder, 64, 256)
    # of coefficients it also says whose they are
    coarse = open_source(folder, "train-test", CoefficientConfig(batch_size=2, validation_subjects=2, image_size=32))
    assert coarse.about == {**source.about, "face_model": model_hash(load_face_model())}


@pytest.mark.parametrize("change, message", [
    ({"batch_images": 0}, "batch_images must be at least 1"), ({"min_images": 3}, "min_images <= max_images")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_a_missing_shard_moves_nobody_to_the_other_side(tmp_path):
    make_shards(tmp_path / "subjects", RenderOptions(subjects=40, images=2, size=16, seed=6, detect=0.0))
    config = dataclasses.replace(CONFIG, validation_subjects=20, image_size=16)
    whole = make_sequences(open_shards(tmp_path / "subjects"), config)
    shutil.rmtree(tmp_path / "subjects" / "shard_00000")
    shards = open_shards(tmp_path / "subjects", partial=True)
    training, validation = make_sequences(shards, config)
    assert set(shards.subjects[validation.subjects]) == set(range(16, 20))
    assert set(shards.subjects[training.subjects]) == set(range(20, 40))
    np.testing.assert_array_equal(training.targets.template, whole[0].targets.template)


def test_no_pose_knows_who_it_is(folder):
    """Streams of random numbers: a subject's and each of the images' are different ones (zeros pad seeds)."""
    shards = open_shards(folder)
    identity = shards.gather("identity", np.arange(8))
    for image in range(2):
        pose = shards.gather("pose", np.arange(8), np.full(8, image))
        shared = np.abs(pose[:, None, :3] - (25, 12, 10) * identity[:, 1:4][:, None]).min()
        assert shared > 1e-3


def test_too_few_subjects(folder):
    with pytest.raises(ValueError, match="too few for a batch"):
        make_sequences(open_shards(folder), dataclasses.replace(CONFIG, validation_subjects=6))
    with pytest.raises(ValueError, match="max_images is 4"):
        make_sequences(open_shards(folder), dataclasses.replace(CONFIG, max_images=4))
