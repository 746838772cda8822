"""Batches of subject folders against plain NumPy and the listing's port, `fit`, and the messages for bad folders."""
import collections
import logging

import cv2
import keras
import numpy as np
import pytest

from Datagenerator.dataset import DataConfig, SubjectSequence
from Datagenerator.loading.epoch import Shard
from Dataset.io.images import minmax, read_image
from Dataset.sources.subjects import list_subjects

COUNTS = (7, 12, 3, 10)
SIZE, POINTS = 16, 20


def write_ply(path, points):
    rows = "\n".join(" ".join(f"{value:.9g}" for value in point) for point in points)
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex {len(points)}\nproperty float x\nproperty float y\n"
                    f"property float z\nend_header\n{rows}\n")


def write_subjects(root, counts=COUNTS, size=SIZE, points=POINTS):
    """Subject folders P00, P01, ...: images of blocks and noise; the ground truths are away from the origin."""
    rng = np.random.default_rng(0)
    for subject, count in enumerate(counts):
        folder = root / f"P{subject:02d}"
        folder.mkdir(parents=True)
        for image in range(count):
            blocks = np.kron(rng.integers(20, 230, (4, 4, 3)), np.ones((size // 4, size // 4, 1)))
            cv2.imwrite(str(folder / f"{image:03d}.jpg"), (blocks + rng.normal(0, 5, blocks.shape)).astype(np.uint8))
        write_ply(folder / f"P{subject:02d}.ply", 50 * rng.normal(size=(points, 3)) + (3, -2, 100 + subject))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_subjects(tmp_path_factory.mktemp("subjects"))


def config(**more):
    return DataConfig(**{**dict(images=3, batch_size=4, image_size=SIZE, points=POINTS), **more})


def read_truth(path):
    lines = path.read_text().split("end_header\n")[1].splitlines()
    return np.array([[float(value) for value in line.split()] for line in lines])


def batch_obvious(sequence, epoch, rows):
    """A batch in plain NumPy from the files, without a line of the generator's."""
    groups, x, y = sequence.groups(epoch), [], []
    for row in rows:
        subject = sequence.subjects[groups.subjects[row]]
        images = [cv2.imread(str(subject.images[i])).astype(np.float64) for i in groups.images[row]]
        x.append([(image - image.min()) / (image.max() - image.min()) for image in images])
        points = read_truth(subject.ground_truth)
        points -= points.mean(axis=0)
        y.append(points / max(np.linalg.norm(point) for point in points))
    return np.array(x), np.array(y)


# 5 repeats of 2 + 4 + 1 + 3 groups = 50 groups: 12 batches of 4 and one of 2
@pytest.mark.parametrize("cache", ["none", "uint8"])
def test_batches_against_numpy(folder, cache):
    sequence = SubjectSequence(folder, config(cache=cache))
    assert len(sequence) == 13 and sequence.cached == (cache == "uint8") and sequence.skipped == ()
    for _ in range(2):          # the second time from the cache
        row = 0
        for index in range(len(sequence)):
            x, y = sequence[index]
            rows = range(row, row + (4 if index < 12 else 2))
            wanted_x, wanted_y = batch_obvious(sequence, 0, rows)
            assert x.dtype == y.dtype == np.float32
            assert x.shape == (len(rows), 3, SIZE, SIZE, 3) and y.shape == (len(rows), POINTS, 3)
            np.testing.assert_allclose(x, wanted_x, atol=1e-6)
            np.testing.assert_allclose(y, wanted_y, atol=1e-6)
            row += len(rows)
        assert row == 50


def test_images_are_bit_for_bit_the_shared_minmax(folder):
    sequence = SubjectSequence(folder, config())
    groups = sequence.groups(0)
    x, _ = sequence[0]
    for sample in range(4):
        for step, image in enumerate(groups.images[sample]):
            path = sequence.subjects[groups.subjects[sample]].images[image]
            assert (x[sample, step] == minmax(read_image(path))).all()


def test_a_constant_image_is_zero(tmp_path):
    write_subjects(tmp_path, counts=(1,))
    cv2.imwrite(str(tmp_path / "P00" / "000.jpg"), np.full((SIZE, SIZE, 3), 77, np.uint8))
    x, _ = SubjectSequence(tmp_path, config(images=1, batch_size=1))[0]
    assert (x == 0).all()


def test_origin_normalisation_keeps_millimetres(folder):
    sequence = SubjectSequence(folder, config(normalisation="origin"))
    _, y = sequence[0]
    for name, points in zip(sequence.names(0, 0), y):
        truth = read_truth(folder / name / f"{name}.ply")
        np.testing.assert_allclose(points, truth - truth.min(axis=0), atol=1e-4)
        assert points.min() == 0 and points.max() > 50


def test_names_and_coverage_over_an_epoch(folder):
    sequence = SubjectSequence(folder, config())
    names = [name for index in range(len(sequence)) for name in sequence.names(3, index)]
    assert collections.Counter(names) == {"P00": 10, "P01": 20, "P02": 5, "P03": 15}
    assert names[:4] == sequence.names(3, 0)


def test_epochs(folder):
    sequence, twin = SubjectSequence(folder, config()), SubjectSequence(folder, config())
    zero = sequence[0][0].copy()
    sequence.set_epoch(1)
    assert (sequence[0][0] != zero).any()
    assert (sequence[0][0] == twin.batch(1, 0)[0]).all() and (twin[0][0] == zero).all()
    other = SubjectSequence(folder, config(seed=1))
    assert (other[0][0] != zero).any()
    with pytest.raises(ValueError, match="^epoch must be at least 0, got -1$"):
        sequence.set_epoch(-1)


def test_iteration_ends(folder):
    sequence = SubjectSequence(folder, config(repeats=1))
    assert [len(x) for x, _ in sequence] == [4, 4, 2]
    for index in (-1, 3):
        with pytest.raises(IndexError):
            sequence[index]
    assert [len(x) for x, _ in SubjectSequence(folder, config(repeats=1, last_batch="drop"))] == [4, 4]


def test_as_published_reproduces_the_listings_batches(tmp_path, monkeypatch):
    """The port, handed our order of one epoch, gives the same batches: same files, pixels and targets."""
    from tests.bench.generator_port import GeneratorPort
    write_subjects(tmp_path, counts=(7, 4, 9), size=256, points=50)
    sequence = SubjectSequence(tmp_path, DataConfig(images=3, batch_size=3, points=50, as_published=True))
    port = GeneratorPort(str(tmp_path), images=3, batch_size=3, points=50)
    groups = sequence.groups(0)
    port.inputs = [[str(sequence.subjects[s].images[i]) for i in row] for s, row in zip(*groups)]
    port.targets = [port.subjects[s][1][None] for s in groups.subjects]
    port.order = list(range(len(port.inputs)))
    assert len(groups.subjects) == 30 and len(port) == len(sequence) == 10      # 5 * (2 + 1 + 3)
    for index in range(10):
        (x, y), (port_x, port_y) = sequence[index], port[index]
        assert (x == port_x).all()
        np.testing.assert_allclose(y, port_y, atol=1e-6)
    assert {row for index in range(10) for row in sequence.rows(index)} == set(range(10 + 3 - 1))


def test_port_of_the_listing_draws_the_same_epoch(tmp_path):
    """Groups per subject, and images per subject, as in ours."""
    from tests.bench.generator_port import GeneratorPort
    write_subjects(tmp_path, counts=COUNTS, size=16)
    port = GeneratorPort(str(tmp_path), images=3, batch_size=4, points=POINTS)
    subjects = collections.Counter(file.split("/")[-2] for group in port.inputs for file in group)
    assert subjects == {"P00": 30, "P01": 60, "P02": 15, "P03": 45} and len(port) == 12


def test_shards_are_parts_of_the_batch(folder):
    sequence = SubjectSequence(folder, config())
    whole = sequence.batch(2, 5)
    parts = [sequence.batch(2, 5, Shard(index, 2)) for index in range(2)]
    for array, *pieces in zip(whole, *parts):
        assert (array == np.concatenate(pieces)).all()


def test_split_by_names_and_by_subjects(folder):
    sequence = SubjectSequence(folder, config(), names=["P03", "P01"])
    assert [subject.name for subject in sequence.subjects] == ["P03", "P01"]
    same = SubjectSequence([list_subjects(folder)[3], list_subjects(folder)[1]], config())
    assert (same[0][0] == sequence[0][0]).all()


def test_subjects_with_too_few_images_are_named(folder, caplog):
    with caplog.at_level(logging.WARNING):
        sequence = SubjectSequence(folder, config(images=8, batch_size=2))
    assert sequence.skipped == ("P00", "P02") and [p.name for p in sequence.subjects] == ["P01", "P03"]
    assert caplog.messages == [f"{folder}: 2 of 4 subjects have fewer than 8 images and are left out: P00, P02"]


def test_resize_is_asked_for(folder):
    with pytest.raises(ValueError, match=r"^.*P\d\d/\d{3}\.jpg: an image must be 8x8 pixels .*, this is 16x16$"):
        SubjectSequence(folder, config(image_size=8))[0]
    x, _ = SubjectSequence(folder, config(image_size=8, resize=True, repeats=1))[0]
    assert x.shape == (4, 3, 8, 8, 3) and abs(x.min()) < 1e-6 and abs(x.max() - 1) < 1e-6


@pytest.mark.parametrize("more, message", [
    (dict(points=21), r"P00\.ply: a ground truth must have 21 points .* 20: make the folders with --points 21, or read "
     r".* --points 20$"),
    (dict(images=13), r": a sample takes 13 images of one subject, the most that any of 4 subjects has is 12$"),
    (dict(batch_size=51, last_batch="drop"), r": a batch takes 51 samples, an epoch has 50$"),
    (dict(batch_size=51, as_published=True), r": a batch takes 51 samples, an epoch has 50$"),
    (dict(cache="uint8", cache_limit=100), r"^cache 'uint8': 32 images of 16x16 need 0\.0 MB .* limit is 0\.0 MB"),
])
def test_folders_that_do_not_fit(folder, more, message):
    with pytest.raises(ValueError, match=message) as caught:
        SubjectSequence(folder, config(**more))
    assert "\n" not in str(caught.value)


def test_unknown_subjects(folder):
    with pytest.raises(ValueError, match=": no subject P09, X; it has 4 subjects, P00 to P03$"):
        SubjectSequence(folder, config(), names=["P01", "P09", "X"])
    with pytest.raises(ValueError, match=": at least one subject is needed, got none$"):
        SubjectSequence(folder, config(), names=[])
    with pytest.raises(ValueError, match="^dataset: at least one subject is needed, got none$"):
        SubjectSequence([], config())


def test_broken_files_are_named(tmp_path):
    write_subjects(tmp_path, counts=(3,))
    (tmp_path / "P00" / "001.jpg").write_bytes(b"not an image")
    sequence = SubjectSequence(tmp_path, config(batch_size=1))
    with pytest.raises(ValueError, match=r"P00/001\.jpg: "):
        sequence[0]
    write_ply(tmp_path / "P00" / "P00.ply", np.ones((POINTS, 3)))
    with pytest.raises(ValueError, match=r"P00\.ply: "):
        SubjectSequence(tmp_path, config(batch_size=1))


@pytest.mark.parametrize("field, value", [
    ("images", 0), ("batch_size", 0), ("repeats", 0), ("image_size", 0), ("points", 0), ("seed", -1),
    ("normalisation", "sphere"), ("last_batch", "pad"), ("cache", "yes")])
def test_bad_settings(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be .*, got {value!r}$"):
        DataConfig(**{field: value})


def test_defaults_are_the_thesiss():
    defaults = DataConfig()
    assert (defaults.images, defaults.batch_size, defaults.repeats, defaults.image_size, defaults.points) \
        == (8, 5, 5, 256, 16384)
    assert defaults.normalisation == "unit_sphere" and not defaults.as_published


@pytest.mark.parametrize("workers", [1, 2])
def test_fit_sees_every_group_of_each_epoch(folder, workers):
    """Keras's own loop, with the epoch set by a callback: the callback runs before Keras asks for the first batch."""
    sequence = SubjectSequence(folder, config(repeats=1), workers=workers)
    seen = []

    class Spy(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(POINTS * 3)
            self.reshape = keras.layers.Reshape((POINTS, 3))

        def call(self, x):
            return self.reshape(self.dense(keras.layers.Flatten()(x)))

        def train_step(self, data):
            seen.append(data[0].numpy())
            return super().train_step(data)
    model = Spy()
    model.compile(loss="mse", optimizer="sgd", run_eagerly=True)
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: sequence.set_epoch(epoch))
    model.fit(sequence, epochs=3, shuffle=False, verbose=0, callbacks=[follow])
    wanted = [sequence.batch(epoch, index)[0] for epoch in range(3) for index in range(len(sequence))]
    assert len(seen) == len(wanted) == 9
    assert all((a == b).all() for a, b in zip(seen, wanted))
