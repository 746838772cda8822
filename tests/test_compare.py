"""Evaluation/reports/compare.py on made subjects and systems; Network/commands/compared.py; options of evaluate.py."""
from __future__ import annotations

import csv
import io
import math
from itertools import count
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import to_unit_sphere
from Dataset.representations.points import encode, grid_landmarks
from Dataset.synthesis.renders import RenderOptions
from Evaluation.figures.plots import plot_comparison
from Evaluation.reports import compare as comparing
from Evaluation.reports.compare import SEED, cached_subjects, compare, compare_on
from Evaluation.reports.options import parse

SIDE, EVERYBODY, IMAGES = 16, 3, 2


class SubjectSet(NamedTuple):
    images: Callable
    count: int
    targets: np.ndarray
    constant: np.ndarray
    digest: str
    in_photo: Callable
    landmarks: Callable
    seed: int = SEED


class Made(NamedTuple):
    """A system that knows the answers: fraction of the way from the mean face to the truth."""

    name: str
    read: Callable
    subject: Callable
    points: int = SIDE * SIDE
    parameters: int = 1_500_000
    size: int = 3_000_000
    training: Any = {"samples": 150_000, "cpu_hours": 4.0}
    fusion: str = "as it likes"
    seed: int | None = 0
    side: int = 32


@pytest.fixture(scope="module")
def subjects():
    model, rng = load_face_model(), np.random.default_rng(4)
    identity = rng.standard_normal((EVERYBODY, 200))
    grids = [to_unit_sphere(encode(model.shape(x), SIDE, model).reshape(-1, 3))[0].astype(np.float32) for x in identity]
    mean = to_unit_sphere(encode(model.mean, SIDE, model).reshape(-1, 3))[0].astype(np.float32)
    seen = np.arange(SIDE * SIDE) % SIDE < 12

    def landmarks(subject, image):
        return 0.5 + 0.4 * grid_landmarks(grids[subject], model)[:, :2], np.ones(68, bool)
    # an image is its subject's number
    return SubjectSet(lambda p: np.full((IMAGES, 4, 4, 3), p / 10, np.float32), IMAGES, np.stack(grids), mean, "0" * 64,
                      lambda p, k: (100 * grids[p], seen), landmarks)


def system(subjects: SubjectSet, name: str, fraction: float, says: bool = True, **more: Any) -> Made:
    def face(image: np.ndarray) -> np.ndarray:
        subject = round(10 * float(image.flat[0]))
        return subjects.constant + fraction * (subjects.targets[subject] - subjects.constant)

    def read(image: np.ndarray):
        subject = round(10 * float(image.flat[0]))
        return face(image), subjects.landmarks(subject, 0)[0] + [0.01, 0] if says else None, True
    return Made(name, read, lambda images: face(images[0]), **more)


def ticking() -> Callable[[], float]:
    """A clock of which every look is 5 ms after the last."""
    ticks = count()
    return lambda: 0.005 * next(ticks)


@pytest.fixture(scope="module")
def compared(subjects):
    systems = [system(subjects, "perfect", 1.0), system(subjects, "half", 0.5, says=False, seed=SEED),
               system(subjects, "wrong", -0.5)]
    return compare(systems, lambda points: subjects, "made", photos=1, surface=False, clock=ticking())


def test_the_mean_face_is_the_first_system(compared):
    assert [row[0] for row in compared.photo.rows] == ["mean face", "perfect", "half", "wrong"]
    assert [row[0] for row in compared.subject.rows] == ["mean face", "perfect", "half", "wrong"]
    mean = dict(zip(compared.subject.columns, compared.subject.rows[0]))
    assert mean["ratio to the mean face"] == 1 and mean["genuine/impostor ratio"] == 1
    assert all(math.isnan(mean[name]) for name in ("ms per photo", "parameters", "MB"))


def test_the_numbers(compared, subjects):
    photo, subject = ({row[0]: dict(zip(table.columns, row)) for row in table.rows}
                      for table in (compared.photo, compared.subject))
    assert photo["perfect"]["error"] < 1e-4 and subject["perfect"]["error"] < 1e-4
    for table in (photo, subject):
        assert 0.2 < table["half"]["ratio to the mean face"] < 0.9 < 1.0 < table["wrong"]["ratio to the mean face"]
        ratio = table["half"]["ratio to the mean face"]
        assert table["half"]["error"] == pytest.approx(ratio * table["mean face"]["error"])
    assert subject["perfect"]["rank-1"] == subject["half"]["rank-1"] == "3 of 3"
    assert subject["perfect"]["genuine/impostor ratio"] < 1e-6 and subject["half"]["genuine/impostor ratio"] < 1
    side = [math.sqrt(np.prod(np.ptp(subjects.landmarks(p, 0)[0], axis=0))) for p in range(EVERYBODY)]
    assert photo["perfect"]["landmarks"] == pytest.approx(np.mean([1 / s for s in side]))
    assert math.isnan(photo["half"]["landmarks"]) and math.isnan(photo["mean face"]["landmarks"])
    assert photo["half"]["ms per photo"] == pytest.approx(5.0)
    assert subject["half"]["ms per photo"] == pytest.approx(5.0 / IMAGES)
    for table in (photo, subject):
        assert [table["half"][name] for name in ("parameters", "MB", "samples", "CPU-hours")] == [1.5e6, 3, 150_000, 4]
        assert all(math.isnan(table["mean face"][name]) for name in ("samples", "CPU-hours"))
    assert subject["half"]["fusion of the photos"] == "as it likes"


def test_the_titles_say_who_saw_the_subjects(compared):
    for table in (compared.photo, compared.subject):
        assert "3 subjects (SHA-256 of their identities 0000000000000000); SEEN IN TRAINING by half" in table.title
    assert compared.photo.title.startswith("This photo's face. made")
    assert compared.subject.title.endswith("from all 2 photos of each")


def test_a_photos_hidden_part_does_not_count(subjects):
    def spoilt(image):
        points, *rest = good.read(image)
        points = points.copy()
        points[np.arange(SIDE * SIDE) % SIDE >= 12] += 0.3
        return points, *rest
    good = system(subjects, "good", 1.0)
    found = compare([good._replace(read=spoilt)], lambda points: subjects, "made", 1, False)
    assert found.photo.rows[1][1] < 1e-4


def test_missed_faces_are_counted(subjects):
    """They count with the mean face, and the table says how many they are."""
    good = system(subjects, "good", 1.0)

    def blind(image):
        return good.read(image) if round(10 * float(image.flat[0])) else (subjects.constant, None, False)
    found = compare([good, good._replace(name="blind", read=blind)], lambda points: subjects, "made", 2, False)
    mean, every, some = (dict(zip(found.photo.columns, row)) for row in found.photo.rows)
    assert math.isnan(mean["no face"]) and every["no face"] == 0 and some["no face"] == 2
    assert every["error"] < some["error"] < mean["error"]
    assert any(note.startswith("no face: photos in which the system finds none") for note in found.photo.notes)


def test_files(compared, tmp_path):
    written = compared.write(tmp_path / "table.md")
    assert [path.name for path in written] == [f"table_{kind}.{ending}" for kind in ("photo", "subject")
                                               for ending in ("txt", "csv", "md")] + ["table.png"]
    rows = list(csv.reader(io.StringIO((tmp_path / "table_subject.csv").read_text())))
    assert rows[0][0] == "system" and rows[1][0] == "mean face" and float(rows[3][1]) == compared.subject.rows[2][1]
    assert (tmp_path / "table_photo.md").read_text().count("| half ") == 1
    assert compared.text() == f"{compared.photo.text()}\n{compared.subject.text()}"
    image = cv2.imread(str(tmp_path / "table.png"))
    assert image.shape[1] > 1000 and image.std() > 20
    first = (tmp_path / "table.png").read_bytes()
    compared.write(tmp_path / "table")
    assert (tmp_path / "table.png").read_bytes() == first
    with pytest.raises(ValueError, match="want the mean face and at least one system"):
        plot_comparison([["mean face", 1.0, 1.0, 1.0, math.nan, 0, 0]], tmp_path / "none.png")


def test_what_cannot_be_scored_is_said(subjects):
    bad = system(subjects, "bad", 1.0)._replace(read=lambda image: (np.full((256, 3), np.nan), None, True),
                                                subject=lambda images: np.full((256, 3), np.nan))
    found = compare([bad], lambda points: subjects, "made", 1, False)
    assert math.isnan(found.photo.rows[1][1]) and any(note.startswith("bad: 3 skipped") for note in found.photo.notes)
    assert math.isnan(found.subject.rows[1][4]) and found.subject.rows[1][5] == "0 of 3"


def test_nothing_to_compare(subjects):
    with pytest.raises(ValueError, match="nothing to compare"):
        compare([], lambda points: subjects, "made")
    with pytest.raises(ValueError, match="at least two subjects with 9 images"):
        compare([system(subjects, "a", 1.0)], lambda points: subjects, "made", photos=9)


def test_subjects_are_rendered_once_and_kept(tmp_path, monkeypatch, subjects):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []
    monkeypatch.setattr(comparing, "make_shards", lambda *arguments: asked.append(arguments))
    folder = cached_subjects(5, 32)
    assert folder == tmp_path / "faces3d" / "compare_5x8_32px_seed9001_seen" and folder.parent.is_dir()
    options = RenderOptions(subjects=5, images=8, size=32, seed=SEED, buffers=("uv", "visible_mask"))
    assert asked[0][:2] == (folder, options)
    with pytest.raises(ValueError, match="--size must be within"):
        cached_subjects(5, 9999)


def test_compare_on_asks_for_what_it_needs(tmp_path, monkeypatch, subjects):
    monkeypatch.setattr(comparing, "cached_subjects",
                        lambda count, size, seed, progress: tmp_path / f"{count}_{size}_{seed}")

    class Opened(NamedTuple):
        size: int = 48
        settings: RenderOptions = RenderOptions(margin=1.3)
    monkeypatch.setattr(comparing, "open_shards", lambda path: Opened())
    margins, folders = [], []

    def systems(margin):
        margins.append(margin)
        return [system(subjects, "a", 1.0), system(subjects, "b", 0.5, side=40)]

    def subject_set(*arguments):
        folders.append(arguments)
        return subjects
    compare_on(None, 7, systems, subject_set, 1, False)
    compare_on(tmp_path / "mine", 7, systems, subject_set, 1, False)
    assert margins == [1.15, 1.3]
    # once for all of as many points
    assert folders == [(tmp_path / "7_40_9001", 48, 256), (tmp_path / "mine", 48, 256)]


def test_images_for_a_network_of_another_input():
    from Network.commands.compared import resized
    image = np.zeros((40, 40, 3), np.uint8)
    image[18:22, 18:22] = 200
    image[0, 0] = 50
    np.testing.assert_array_equal(resized(image, 40), image)
    half = resized(image, 20)
    assert half.shape == (20, 20, 3) and half[9:11, 9:11].min() == 200 and half.dtype == np.uint8
    cut = resized(image, 20, 0.5)               # the middle half
    assert cut.shape == (20, 20, 3) and (cut[8:12, 8:12] == 200).all() and cut[0, 0].max() == 0
    wide = resized(image, 60, 1.5)              # the border repeated
    np.testing.assert_array_equal(wide[10:50, 10:50], image)
    assert (wide[:10, :10] == 50).all()


def test_landmarks_come_back_into_the_image(tmp_path):
    """A network that wants to see half as much as the images show."""
    from Network.commands.compared import System, resized
    from Network.inference.base import PhotoAnswer

    class Half:
        size, margin, points, fusion, seen = 8, 1.0, 4, "its states", []

        def photo(self, image):
            self.seen.append(image)
            return PhotoAnswer(np.zeros((4, 3), np.float32), np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]), True)

        def subject(self, images):
            self.seen += images
            return np.ones((4, 3), np.float32)
    one, inputs = System("x", Half(), 0.5), np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    _, marks, seen = one.read(inputs[0])
    np.testing.assert_allclose(marks, [[0.25, 0.25], [0.5, 0.5], [0.75, 0.75]])
    assert seen and one.fusion == "its states" and one.side == 8 and (one.subject(inputs) == 1).all()
    for image, given in zip(one.predictor.seen, inputs[[0, 0, 1]]):
        np.testing.assert_array_equal(image, resized(given, 8, 0.5))
        np.testing.assert_array_equal(image, given[4:12, 4:12])


def test_the_checkpoint_that_is_named_is_compared(monkeypatch):
    """evaluate.py --compare --model RUN --checkpoint X; a bundled network's name is no second system."""
    import evaluate
    from Datagenerator import source
    from Network.commands import compared

    class Named(NamedTuple):
        margin: float = 1.15
    loads = []
    monkeypatch.setattr(compared, "from_run", lambda path, which, *_: loads.append((path.name, which)) or Named())
    monkeypatch.setattr(comparing, "compare_on", lambda folder, count, systems, *more: systems(1.15))
    monkeypatch.setattr(source, "subject_set", None)
    box = list(compared.bundled_models())
    words = ["--compare", "--model", "runs/mine", "--checkpoint", "last"]
    names = [system.name for system in evaluate.shards_table(parse("x", words))]
    assert names == [*box, "mine"] and loads[-1] == ("mine", "last")
    assert [system.name for system in evaluate.shards_table(parse("x", ["--compare", "--model", "compact"]))] == box


def test_options(capsys):
    assert parse("x", ["--compare"]).compare_subjects == 64
    assert parse("x", ["--aflw2000", "A", "--model", "M"]).boxes == "detector"
    for words, rule in ((["--aflw2000", "A"], "needs --model"),
                        (["--compare", "--compare-subjects", "1"], "must be within 2 to 100000, got 1"),
                        ([], "--data and --model are needed"), (["--boxes", "mine"], "invalid choice"),
                        (["--compare", "--fusion", "joint"], "--fusion is for the subjects of --data"),
                        (["--compare", "--face-model", "none.mat"], "--face-model: none.mat: no such file")):
        with pytest.raises(SystemExit) as exit_:
            parse("x", words)
        assert exit_.value.code == 2 and rule in capsys.readouterr().err
