"""evaluate.py --pairs: made faces whose subjects are known, a slow twin, the shared scorer, and bad folders."""
import importlib.util
import io
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

import evaluate
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import rotation_from_euler, umeyama
from Dataset.io.inputs import example_image
from Dataset.io.images import write_image
from Dataset.io.mesh_io import write_mesh
from Evaluation.metrics.pairs import aligned, matches, matches_among
from Evaluation.reports.pairs import pair_photos, pairs_table
from tests.clouds import face
from tests.commands import command

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def subjects(count: int, kinds: tuple[str, ...] = ("neutral", "smiling"), noise: float = 0.01, seed: int = 0
             ) -> dict[str, np.ndarray]:
    """SUBJECT_KIND -> a face of its subject, with noise and its kind's own change, in another pose and size each."""
    rng, found = np.random.default_rng(seed), {}
    changes = {kind: 0.02 * number * rng.normal(size=3) for number, kind in enumerate(kinds)}
    for subject in range(count):
        own = face(side=12)
        own = own + sum(0.05 * rng.normal(size=3) * np.sin(rng.uniform(1, 4) * own[:, k:k + 1] + k) for k in range(3))
        for kind in kinds:
            points = own + changes[kind] * own[:, 1:2] ** 2 + rng.normal(0, noise, own.shape)
            turn = rotation_from_euler(*rng.uniform(-20, 20, 3))
            found[f"{subject:03d}_{kind}"] = rng.uniform(0.5, 9) * points @ turn.T + rng.normal(size=3)
    return found


def photo_folder(folder: Path, names) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(b"never read: the face is made")
    return folder


def made_table(tmp_path: Path, faces: dict[str, np.ndarray], blind: tuple[str, ...] = ()):
    folder = photo_folder(tmp_path / "photos", faces)
    return pairs_table(folder, lambda path: None if path.stem in blind else faces[path.stem], "made")


def test_the_numbers_against_a_loop():
    """Faces in one pose: the metric written down again, photo by photo."""
    faces = aligned(np.stack(list(subjects(5, noise=0.05).values())))
    radius = np.sqrt((faces ** 2).sum(-1).mean(-1))
    np.testing.assert_allclose(radius, 1, atol=1e-12)
    np.testing.assert_allclose(faces.mean(1), 0, atol=1e-12)
    a, b = faces[::2], faces[1::2]
    own, others, forward, backward = [], [], 0, 0
    for i in range(5):
        row = [np.mean([np.linalg.norm(p - q) for p, q in zip(a[i], b[j])]) for j in range(5)]
        column = [np.mean([np.linalg.norm(p - q) for p, q in zip(a[j], b[i])]) for j in range(5)]
        own.append(row[i])
        others += row[:i] + row[i + 1:]
        forward += int(np.argmin(row)) == i
        backward += int(np.argmin(column)) == i
    found = matches(a, b)
    assert (found.forward, found.backward) == (forward, backward)
    assert found.ratio == pytest.approx(np.mean(own) / np.mean(others))


def test_alignment_takes_pose_and_size_out():
    own = face(side=10)
    poses = [k * own @ rotation_from_euler(25 * k, -10 * k, 40).T + k for k in range(1, 4)]
    faces = aligned(np.stack(poses))
    np.testing.assert_allclose(faces, np.broadcast_to(faces[0], faces.shape), atol=1e-9)
    mirrored = aligned(np.stack([own, own * [-1, 1, 1]]))       # no reflection: an asymmetric face keeps its side
    assert np.abs(mirrored[0] - mirrored[1]).max() > 0.05
    assert umeyama(own, faces[0]).scale == pytest.approx(1 / np.sqrt(((own - own.mean(0)) ** 2).sum(1).mean()))


def test_subjects_are_found_again(tmp_path):
    table = made_table(tmp_path, subjects(6))
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    for ways in ("smiling to neutral", "neutral to smiling"):
        assert rows[ways, "as they are"][:2] == [6, 6] and rows[ways, "mean change taken out"][:2] == [6, 6]
    plain, without = (rows["neutral to smiling", how][2] for how in ("as they are", "mean change taken out"))
    assert 0 < without < plain < 0.5                # the common smile is no difference of subjects
    assert rows["each to all others", "as they are"][:2] == [12, 12]
    assert table.title == f"made on {tmp_path / 'photos'}: 6 subjects, 12 photos"


def test_a_face_that_is_noise_identifies_nobody(tmp_path):
    rng, own = np.random.default_rng(3), face(side=12)
    noise = {name: own + rng.normal(0, 0.05, own.shape) for name in subjects(12)}
    rows = made_table(tmp_path, noise).rows
    assert all(abs(row[4] - 1) < 0.03 for row in rows) and all(row[2] <= 5 for row in rows[:4])


def test_a_constant_face_identifies_nobody(tmp_path):
    own = face(side=12)
    for row in made_table(tmp_path, {name: own for name in subjects(4)}).rows:
        assert row[2] == 0 and np.isnan(row[4])


def test_photos_without_a_face_are_misses(tmp_path):
    table = made_table(tmp_path, subjects(6), blind=("002_smiling",))
    assert [row[2:4] for row in table.rows[:2]] == [[5, 6], [5, 6]]
    assert table.rows[-1][2:4] == [10, 12]
    assert any(note == "no face in 1 photos, which count as misses: 002_smiling.jpg" for note in table.notes)
    with pytest.raises(ValueError, match="fewer than two subjects have two photos with a face"):
        made_table(tmp_path / "two", subjects(2), blind=("001_smiling",))


def test_any_names_and_numbers_of_photos(tmp_path):
    """Photo numbers are no kinds to take out; a subject with one photo is an impostor only."""
    faces = subjects(3, tuple("abcdef")) | {"zed_1": face(side=12, nose=0.3)}
    table = made_table(tmp_path, faces)
    assert [row[0] for row in table.rows] == ["each to all others"]
    assert table.rows[0][2:4] == [18, 18] and 0 < table.rows[0][4] < 1
    stacked = aligned(np.stack([faces[name] for name in sorted(faces)]))
    assert matches_among(stacked, np.array([name.split("_")[0] for name in sorted(faces)]))[0] == 18


@pytest.mark.parametrize("names, rule", [
    (["001_a", "portrait"], "portrait.jpg: a photo must be named SUBJECT_anything"),
    (["001_a", "_b"], "_b.jpg: a photo must be named SUBJECT_anything"),
    (["001_a", "002_"], "002_.jpg: a photo must be named SUBJECT_anything"),
    ([], "holds no photo"), (["001_a", "001_b", "002_a"], "at least two subjects with two photos each are needed, "
                                                          "found 1 of 2")])
def test_bad_folders_are_one_line(tmp_path, names, rule):
    with pytest.raises(ValueError, match=re.escape(rule)) as error:
        pair_photos(photo_folder(tmp_path / "photos", names))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="none: must be a folder of photos named SUBJECT_anything"):
        pair_photos(tmp_path / "none")


def test_bad_faces():
    with pytest.raises(ValueError, match="faces must be .* finite"):
        aligned(np.full((2, 9, 3), np.nan))
    with pytest.raises(ValueError, match="must have an extent"):
        aligned(np.ones((2, 9, 3)))
    with pytest.raises(ValueError, match="two faces of each of at least two subjects"):
        matches(np.zeros((1, 9, 3)), np.zeros((1, 9, 3)))


@pytest.mark.parametrize("missing", [(), ("017_smiling", "003_neutral")])
def test_it_agrees_with_the_shared_scorer(tmp_path, missing):
    """On made faces of the subjects of ../shared/realfaces: the same counts and ratios."""
    script, photos = SHARED / "identify_real.py", SHARED / "realfaces"
    if not (script.is_file() and photos.is_dir()):
        pytest.skip("the shared scorer is not on this machine")
    names = sorted(path.stem for path in photos.glob("*.jpg"))
    values = list(subjects(len(names) // 2, noise=0.06).values())
    faces = {name: value for name, value in zip(names, values)}
    for name in set(names) - set(missing):
        write_mesh(tmp_path / "pred" / f"{name}.ply", Mesh(faces[name]))
    spec = importlib.util.spec_from_file_location("identify_real", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = io.StringIO()
    with redirect_stdout(out):
        module.main(str(tmp_path / "pred"))
    theirs = [re.search(r"rank 1: (\d+) .*?, (\d+) .* of (\d+); own/others ([\d.]+)", line).groups()
              for line in out.getvalue().splitlines()]
    rows = made_table(tmp_path, faces, missing).rows
    for (backward, forward, total, ratio), pair in zip(theirs, (rows[:2], rows[2:4])):
        assert [row[2] for row in pair] == [int(backward), int(forward)]
        assert {row[3] for row in pair} == {int(total)} and f"{pair[0][4]:.3f}" == ratio
    assert 10 < int(theirs[0][0]) < 41                      # neither trivial nor hopeless


def test_the_command_reads_photos_with_the_network(tmp_path):
    """compact on one real photo in two versions for each of two subjects (one mirrored), and a photo without a face."""
    image = np.ascontiguousarray(example_image().image[:240, 110:350])
    for name, version in (("a_1", image), ("a_2", image[:, 8:]), ("b_1", image[:, ::-1]), ("b_2", image[8:, ::-1])):
        write_image(tmp_path / "photos" / f"{name}.jpg", version)
    write_image(tmp_path / "photos" / "c_1.jpg", np.full((64, 64, 3), 127, np.uint8))
    done = command(evaluate.main, "--pairs", tmp_path / "photos", "--model", "compact", "--results", tmp_path / "out")
    assert done.returncode == 0 and "no face in 1 photos, which count as misses: c_1.jpg" in done.stdout
    assert "a constant face none" in done.stdout and (tmp_path / "out.md").is_file()
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert rows[0] == ["photos", "faces", "rank-1", "of", "genuine/impostor ratio"]
    assert rows[1][:4] == ["2 to 1", "as they are", "2", "2"] and 0 < float(rows[1][4]) < 1
    shutil.copy(tmp_path / "photos" / "a_1.jpg", tmp_path / "photos" / "nobody.jpg")
    done = command(evaluate.main, "--pairs", tmp_path / "photos", "--model", "compact", "--results", tmp_path / "no")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "nobody.jpg: a photo must be named SUBJECT_anything" in done.stderr and not list(tmp_path.glob("no.*"))
