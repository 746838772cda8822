"""Network/commands/answer.py: photos in memory -> a face and its files in memory; nothing is kept between visitors."""
import io
import zipfile

import numpy as np
import pytest

from Dataset.io.inputs import example_image
from Network.commands.answer import Answers, face_files
from Network.inference.base import Face
from Network.inference.photos import NoFace, square_crop
from Network.engine.loaded import DEFAULT_MODEL, bundled_models

BLANK = np.full((100, 100, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return example_image().image


def test_the_box_begins_with_the_default_network(answers):
    assert next(iter(bundled_models().values())) == DEFAULT_MODEL
    assert list(answers.networks)[0] == DEFAULT_MODEL.name and set(answers.networks.values()) == {"bundled weights"}


def test_a_name_in_the_box_is_no_model_of_ones_own():
    assert set(Answers("compact").networks.values()) == {"bundled weights"}


def test_one_face_from_the_photos_that_show_one(answers, photo):
    answer = answers([BLANK, photo], "compact")
    assert answer.skipped == [0] and sorted(answer.files) == ["face.glb", "face.ply", "face.zip"]
    assert answer.mesh.vertices.shape == (16384, 3) and answer.mesh.colours is not None
    assert answer.files["face.glb"][:4] == b"glTF" and answer.files["face.ply"].startswith(b"ply\n")
    with zipfile.ZipFile(io.BytesIO(answer.files["face.zip"])) as archive:
        assert sorted(archive.namelist()) == ["face.mtl", "face.obj", "face_texture.png"]
        assert b"map_Kd face_texture.png" in archive.read("face.mtl")


def torn(photo):
    """Photos that fail after the first."""
    yield photo[:, ::-1]
    raise ValueError("torn")


def test_the_visitor_before_leaves_no_trace(answers, photo):
    first = answers([photo], "compact")
    answers([photo[:, ::-1], photo], "compact")
    with pytest.raises(ValueError, match="torn"):
        answers(torn(photo), "compact")
    again = answers([photo], "compact")
    # not byte by byte: TensorFlow's graph may give the same input another last bit (docs/security.md)
    assert again.files.keys() == first.files.keys()
    np.testing.assert_allclose(again.mesh.vertices, first.mesh.vertices, atol=1e-5)
    difference = np.abs(again.mesh.colours.astype(int) - first.mesh.colours)
    assert difference.mean() < 0.01 and difference.max() <= 3


def test_no_face_in_words_without_our_paths(answers):
    with pytest.raises(ValueError, match="^photo 1, photo 2: no face found; try a larger or sharper photo$"):
        answers([BLANK, BLANK], "compact")
    with pytest.raises(ValueError, match="at least one photo is needed, got none"):
        answers([], "compact")
    with pytest.raises(ValueError, match="^network must be one of .*compact.*, got 'nobody'$"):
        answers([BLANK], "nobody")


def test_what_the_network_takes_for_no_face_is_left_out_too(answers, photo, monkeypatch):
    stream = answers.load("compact")
    add = type(stream).add

    def picky(self, image):
        if image.name == "photo 1":
            raise NoFace("photo 1: no face")
        return add(self, image)
    monkeypatch.setattr(type(stream), "add", picky)
    assert answers([photo, photo], "compact").skipped == [0]
    with pytest.raises(ValueError, match="^photo 1: no face found"):
        answers([photo], "compact")


def test_a_model_that_is_none():
    with pytest.raises(ValueError, match="nowhere: no such model file or run folder"):
        Answers("nowhere")


def test_a_cloud_has_no_glb():
    cloud = Face(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), square_crop(BLANK, 64))
    files = face_files(cloud)
    assert sorted(files) == ["face.ply", "face.zip"] and files == face_files(cloud)
