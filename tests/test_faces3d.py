"""faces3d.py: the API's door, and the console command."""
import os
import subprocess
import sys

import numpy as np
import pytest

import faces3d
from Dataset.io.images import write_image
from Dataset.io.inputs import example_image
from Dataset.io.marks import is_marked
from Dataset.io.mesh_io import read_mesh
from Network.inference.photos import NoFace
from tests.forkserver import ROOT


@pytest.fixture(scope="module")
def predictor():
    return faces3d.from_preset()


@pytest.fixture
def photo(tmp_path):
    write_image(tmp_path / "me.png", example_image().image)
    return tmp_path / "me.png"


def test_two_lines(photo, tmp_path, predictor):
    found = faces3d.reconstruct([photo], model="compact")
    paths = found.save(tmp_path / "out" / "me.ply")
    assert sorted(path.name for path in paths) == ["me.ply", "me_landmarks.pts", "me_pose.json"]
    assert all(is_marked(path) for path in paths)
    assert found.photos == ((str(photo), pytest.approx(0.9, abs=0.1), None),)
    predictor.reset()
    np.testing.assert_array_equal(found.face.points, predictor.add(example_image().image).points)
    with_expression, neutral = read_mesh(paths[0]), read_mesh(found.save(tmp_path / "n.ply", expression=False)[0])
    assert np.abs(with_expression.vertices - neutral.vertices).max() > 1        # mm: she smiles


def test_several_photos_in_any_form(photo, predictor):
    seen = []
    grey = np.full((200, 200, 3), 90, np.uint8)
    sources = [str(photo), photo, example_image(), example_image().image, grey]
    found = faces3d.reconstruct(sources, predictor, seen.append)
    assert seen == list(found.photos) and [one.missing is None for one in seen] == [True] * 4 + [False]
    assert seen[2].name == "scikit-image's astronaut" and seen[4] == ("photo 5", None, "photo 5: no face found")
    assert predictor.count == 4
    alone = faces3d.reconstruct(photo, predictor)
    assert len(alone.photos) == predictor.count == 1        # another subject
    assert len(faces3d.reconstruct(photo.parent, predictor).photos) == 1        # a folder
    assert faces3d.reconstruct(example_image(), predictor).photos[0].name == "scikit-image's astronaut"


def test_many_subjects_and_an_end(photo, predictor):
    subjects = {"anna": [photo], "nobody": [np.full((64, 64, 3), 90, np.uint8)], "gone": ["nowhere.jpg"], "bert": photo}
    found = dict(faces3d.reconstruct_subjects(subjects, predictor))
    assert list(found) == list(subjects)
    np.testing.assert_array_equal(found["anna"].face.points, found["bert"].face.points)
    assert isinstance(found["nobody"], NoFace) and "nowhere.jpg: no such file" in str(found["gone"])

    def stop(one):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        next(faces3d.reconstruct_subjects(subjects, predictor, stop))


def test_it_replaces_no_photo_and_no_file_of_the_users(photo, predictor):
    found = faces3d.reconstruct(photo, predictor)
    before = photo.read_bytes()
    assert photo.with_suffix(".ply") in found.save(photo.with_suffix(".ply")) and photo.read_bytes() == before
    with pytest.raises(ValueError, match="would overwrite one of the images, me_texture.png"):
        texture = photo.rename(photo.with_name("me_texture.png"))
        faces3d.reconstruct(texture, predictor).save(photo.with_suffix(".obj"))
    photo.with_name("mine.ply").write_bytes(b"mine")
    with pytest.raises(ValueError, match="mine.ply: is there, and not this program's"):
        found.save(photo.with_name("mine.ply"))
    assert found.save(photo.with_name("mine.ply"), overwrite=True)
    with pytest.raises(ValueError, match="a mesh is written as .ply, .obj, .glb"):
        found.save(photo.with_name("mine.stl"))


@pytest.mark.parametrize("photos, error", [([], NoFace), (["nowhere.jpg"], ValueError), ([None], ValueError),
                                           ([np.zeros((4, 4))], ValueError)])
def test_bad_input(photos, error, predictor):
    with pytest.raises(error):
        faces3d.reconstruct(photos, predictor)


NO_PHOTOS = [None, 5, np.nan, b"x", memoryview(b"x"), {}, {"a": "b.jpg"}, [None], [5, "x.jpg"], [["x.jpg"]]]


def test_other_types_are_refused_and_change_nothing(photo, predictor):
    faces3d.reconstruct(photo, predictor)
    before = predictor.face
    for bad in NO_PHOTOS:
        with pytest.raises(ValueError, match="photos must be"):
            faces3d.reconstruct(bad, predictor)
        (name, error), = faces3d.reconstruct_subjects({"anna": bad}, predictor)
        assert name == "anna" and isinstance(error, ValueError) and str(error).startswith("anna: photos must be")
        assert predictor.face is before and predictor.count == 1
    for bad in (None, 5, b"x", ["compact"]):
        with pytest.raises(ValueError, match="model must be"):
            faces3d.reconstruct(photo, bad)
        with pytest.raises(ValueError, match="model must be"):
            faces3d.reconstruct_subjects({}, bad)
        with pytest.raises(ValueError, match="path must be"):
            faces3d.from_run(bad)
        with pytest.raises(ValueError, match="preset must be"):
            faces3d.from_preset(bad)
    for bad in (None, 5, [photo], "x"):
        with pytest.raises(ValueError, match="subjects must be a mapping"):
            faces3d.reconstruct_subjects(bad, predictor)
    with pytest.raises(ValueError, match="no such model file or run folder"):
        faces3d.from_run("a" * 5000)


def test_saving_names_the_output(photo, predictor, tmp_path):
    """What is no path, a place that takes no file, and what is there and no file: a pipe, or a link to one, or to
    nothing; they stay."""
    found = faces3d.reconstruct(photo, predictor)
    for bad in (None, 5, b"x.ply", ["x.ply"]):
        with pytest.raises(ValueError, match="path must be a file's path"):
            found.save(bad)
    with pytest.raises(OSError) as error:
        found.save("/proc/x.ply")
    assert error.value.filename == "/proc/x.ply" and ".tmp-" not in str(error.value)
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "link.ply").symlink_to("pipe.ply")
    (tmp_path / "nowhere.ply").symlink_to("none.ply")
    os.mkfifo(tmp_path / "side_pose.json")
    (tmp_path / "folder.ply").mkdir()
    before = sorted(tmp_path.iterdir())
    for name in ("pipe.ply", "link.ply", "nowhere.ply", "side.ply", "folder.ply"):
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="is there, and is no regular file; name another --output"):
                found.save(tmp_path / name, overwrite=overwrite)
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "pipe.ply").is_fifo()


def test_the_console_command(capsys):
    assert faces3d.main(["--help"]) == 0 and "faces3d demo|train|evaluate" in capsys.readouterr().out
    assert faces3d.main(["paint"]) == faces3d.main([]) == 2 and len(capsys.readouterr().err.splitlines()) == 2
    assert faces3d.main(["demo", "nowhere.jpg"]) == 2 and "nowhere.jpg: no such file" in capsys.readouterr().err
    assert faces3d.main(["evaluate", "--data", "nowhere", "--model", "compact"]) == 2


def test_importing_it_waits_for_nothing():
    code = "import sys, faces3d; print([m for m in ('keras', 'cv2', 'numpy', 'open3d') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
