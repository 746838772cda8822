"""demo.py --view swap: two photos, photo by photo, two subjects in one photo; drawn into the whole image."""
import cv2
import numpy as np
import pytest

import demo
from Evaluation.views.face_swap import Face, swap_face
from Evaluation.views.registry import VIEWS
from Evaluation.web.serve import ServeConfig
from Network.commands.demo_options import parse
from Network.engine.face_detector import make_detect
from Network.inference.photos import crop_faces
from Network.inference.readings import read_maps
from tests.test_demo_faces import SIZE, Made
from tests.test_fitted import fake

BOXES = [(20, 10, SIZE, SIZE), (170, 40, SIZE, SIZE)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("swap"))


def crops(self, named, box=None, every_face=False):
    """As `Predictor.crops`, of a detector that finds what lies in BOXES."""
    there = [(x, y, w, h) for x, y, w, h in BOXES if named.image[y:y + h, x:x + w].std() > 1]
    return [crop_faces(named, self.size, make_detect(), box=one)[0] for one in ([box] if box else there)]


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """run(photos, words...) -> names of the files that are there then; each photo has its face, or faces, in BOXES."""
    def call(photos, *words):
        monkeypatch.setattr("Network.inference.registry.load",
                            lambda path, *_: fake(made.answers["uvnet"]))
        monkeypatch.setattr("Evaluation.views.demo_output.write_preview", lambda *_: None)
        monkeypatch.setattr("Network.inference.base.Predictor.crops", crops)
        paths = []
        for number, photo in enumerate(photos):
            paths.append(str(tmp_path / f"photo{number}.png"))
            cv2.imwrite(paths[-1], photo)
        words = [*paths, "-o", str(tmp_path / "face.ply"), "--view", "swap", *words]
        demo.reconstruct(parse("", ServeConfig, VIEWS, words))
        return {path.name for path in tmp_path.glob("face*") if path.suffix not in (".pts", ".json")}
    return call


def scene(made, *faces) -> np.ndarray:
    """A grey image with the made photos number `faces` in BOXES."""
    image = np.full((200, 320, 3), 90, np.uint8)
    for face, (x, y, w, h) in zip(faces, BOXES):
        image[y:y + h, x:x + w] = made.images[face]
    return image


def swapped(made, first: int, second: int) -> np.ndarray:
    """What the crop of the second must show."""
    faces = []
    for number in (first, second):
        maps = read_maps(made.answers["uvnet"][number])
        faces.append(Face(made.images[number], maps.uv, maps.visible_mask))
    return swap_face(*faces)


def test_two_photos(made, run, tmp_path):
    """The whole second photo, which changes where its face is and nowhere else."""
    first, second = scene(made, 0), scene(made, 1)
    assert run([first, second]) == {"face.ply", "face_swap.png"}
    x, y, w, h = BOXES[0]
    wanted = second.copy()
    wanted[y:y + h, x:x + w] = swapped(made, 0, 1)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "face_swap.png")), wanted)
    assert (wanted != second).mean() > 0.02


def test_photo_by_photo(made, run):
    """The first has nobody's face but its own: its mesh is written, and no view."""
    assert run([scene(made, 0), scene(made, 1)], "--each") == {"face_01.ply", "face_02.ply", "face_02_swap.png"}


def test_two_subjects_in_one_photo(made, run, tmp_path):
    photo = scene(made, 0, 1)
    assert run([photo], "--faces", "all") == {"face_01.ply", "face_02.ply", "face_02_swap.png"}
    x, y, w, h = BOXES[1]
    photo[y:y + h, x:x + w] = swapped(made, 0, 1)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "face_02_swap.png")), photo)


def test_one_face_is_not_enough(made, run, tmp_path):
    with pytest.raises(ValueError, match="--view swap puts the first photo's face into the others: name two photos"):
        run([scene(made, 0)])
    assert not list(tmp_path.glob("face*"))


def test_a_face_at_the_photos_border(made, run, tmp_path):
    """What hangs over is no part of the image."""
    whole = scene(made, 1)
    x, y, w, h = BOXES[0]
    cut = whole[y + 14:, x + 16:]
    run([cut, cut], f"--box=-16,-14,{w},{h}")
    found = cv2.imread(str(tmp_path / "face_swap.png"))
    assert found.shape == cut.shape
    np.testing.assert_array_equal(found[h - 14:], cut[h - 14:])
    np.testing.assert_array_equal(found[:, w - 16:], cut[:, w - 16:])
