"""Photos -> crops -> network input -> mesh, with a network that is known by heart."""
import logging
from pathlib import Path

import numpy as np
import pytest

from Dataset.detection.upright import grown
from Dataset.io.inputs import NamedImage, example_image
from Dataset.representations.points import grid_triangles
from Network.commands.results import face_mesh, in_millimetres
from Network.engine.face_detector import make_detect
from Network.engine.loaded import Loaded
from Network.inference.base import Face
from Network.inference.photos import EXTENT, Crop, NoFace, crop_faces, faces_of, recrop, square_crop
from Network.inference.registry import predictor_of
from Network.inference.texture import Texture

BLANK = NamedImage("blank.png", np.full((100, 100, 3), 90, np.uint8))


def crop(value: int = 0, pass_name: str = "frontal") -> Crop:
    image = np.full((4, 4, 3), value, np.uint8)
    image[0, 0] = 255
    return Crop(image, image, (0, 0, 4, 4), "x", pass_name)


class Counts:
    """Predicts the number of its images, and remembers them."""

    def __call__(self, images, training):
        assert training is False
        self.images = images
        return np.full((1, 4, 3), float(images.shape[1]), np.float32)


def predictor(images=None, model=None, order="random", points=4):
    return predictor_of(Loaded(model or Counts(), {}, Path("m.keras"), points, 4, images, order))


def test_the_astronaut_is_found_where_her_face_is():
    face, = crop_faces(example_image(), 64, make_detect())
    x, y, w, h = face.box
    assert 150 < x < 200 and 50 < y < 90 and 90 < w < 150 and w == h      # her face, by eye: about (170, 65, 110, 110)
    assert face.image.shape == (64, 64, 3) and face.photo.shape[0] == w


def test_the_example_is_the_image_that_scikit_image_gives():
    """Read without its import."""
    from skimage import data
    assert np.array_equal(example_image().image, data.astronaut()[..., ::-1])


def test_a_box_by_hand_takes_the_place_of_the_detector():
    face, = crop_faces(BLANK, 10, make_detect(), box=(-5, 90, 20, 20))
    assert face.image.shape == (10, 10, 3) and face.pass_name == "by hand"
    for box in ((100, 0, 5, 5), (0, 0, 0, 5), (0, 0, 999, 5), (-5, 0, 5, 5)):
        with pytest.raises(ValueError, match="blank.png: box .* does not lie on the photo of 100x100 pixels"):
            crop_faces(BLANK, 10, make_detect(), box=box)


def test_images_without_a_face(caplog):
    with pytest.raises(ValueError, match="blank.png: no face found"):
        list(faces_of([BLANK], predictor().crops))
    with caplog.at_level(logging.WARNING):
        faces = list(faces_of([BLANK, example_image()], predictor().crops))
    assert len(faces) == 1 and "blank.png: no face found; skipped" in caplog.text
    with pytest.raises(ValueError, match="takes one photo"):
        list(faces_of([example_image(), BLANK], predictor().crops, every_face=True))


def test_images_are_read_one_by_one():
    """The second image is not asked for before the first one's face is taken: a stream holds one at a time."""
    asked = []

    def source():
        for number in range(2):
            asked.append(number)
            yield example_image()
    faces = faces_of(source(), predictor().crops)
    next(faces)
    assert asked == [0]


def test_a_box_grows_about_its_centre():
    assert grown((10, 20, 100, 50), 1.2) == (0, 15, 120, 60)
    assert grown((10, 20, 100, 50), 1.0) == (10, 20, 100, 50)
    face, = crop_faces(example_image(), 64, make_detect())
    wide, = crop_faces(example_image(), 64, make_detect(), margin=1.5)
    assert wide.box == grown(face.box, 1.5) and wide.image.shape == face.image.shape


def test_network_input_is_stretched_image_by_image():
    batch = predictor().inputs([crop(0).image, crop(100).image])
    assert batch.shape == (2, 4, 4, 3) and batch.dtype == np.float32
    assert batch.min() == 0 and batch.max() == 1 and batch[1, 1, 1, 0] < 1e-6       # 100 is that image's smallest


@pytest.mark.parametrize("image", [np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_a_crop_is_a_square_of_bytes(image):
    with pytest.raises(ValueError, match="a crop must be .S, S, 3. uint8 BGR, got"):
        square_crop(image, 4)


@pytest.mark.parametrize("fixed, given, taken", [(None, 3, 3), (8, 3, 8), (2, 3, 2), (8, 8, 8)])
def test_a_fixed_number_of_images_is_met(fixed, given, taken):
    model = Counts()
    known = predictor(fixed, model)
    face = [known.add(crop(i)) for i in range(given)][-1]
    assert face.points[0, 0] == taken and known.count == given
    if fixed == 8 and given == 3:
        np.testing.assert_array_equal(model.images[0, 0], model.images[0, 3])


def test_points_that_are_not_finite_are_refused():
    broken = predictor(model=lambda images, training: np.full((1, 4, 3), np.nan))
    with pytest.raises(NoFace, match="x: no face: m.keras predicts points that are not finite"):
        broken.add(crop())
    assert broken.face is None and broken.count == 0


def test_only_an_ordered_prediction_is_a_mesh_and_its_texture_colours_it():
    points = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    cloud = face_mesh(Face(points, crop()))
    assert len(cloud.triangles) == 0 and cloud.colours is None
    mesh = face_mesh(Face(points, crop(), points + 1, texture=Texture(64)))
    np.testing.assert_array_equal(mesh.triangles, grid_triangles(8))
    assert mesh.colours is None and np.array_equal(mesh.vertices, in_millimetres(points))
    other = face_mesh(Face(points, crop(), points + 1, texture=Texture(64)), expression=True)
    np.testing.assert_array_equal(other.vertices, in_millimetres(points + 1))


def test_only_a_frontal_photo_colours_what_has_no_keypoints():
    points = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    ordered = predictor(model=lambda images, training: points[None], order="grid", points=64)
    assert face_mesh(ordered.add(crop(pass_name="profile"))).colours is None


def test_a_badly_cut_face_is_recropped_about_its_keypoints():
    """A face of 40 pixels about (130, 70), in a crop of 100 about (100, 100): the new crop is 40 / 0.91 about it."""
    whole = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    crop_ = Crop(whole[50:150:4, 50:150:4], whole[50:150, 50:150], (50, 50, 100, 100), "x", "profile", whole)
    corners = (np.array([[110, 50], [150, 90], [130, 60]]) - 50) / 100
    again = recrop(crop_, corners)
    assert 40 / EXTENT < 50
    side = 50                                                                   # never less than half
    assert again.box == (130 - side // 2, 70 - side // 2, side, side) and again.image.shape == (25, 25, 3)
    np.testing.assert_array_equal(again.photo, whole[45:95, 105:155])
    moved = (np.array([[110, 50], [150, 90], [130, 60]]) - again.box[:2]) / side
    assert recrop(again, moved) is None                                      # lies well now
    assert recrop(crop_._replace(whole=None), corners) is None               # nothing to cut from
    assert recrop(crop_, corners - 2).box == (50 - 25, 50 - 25, 50, 50)     # by half its side at most
    assert recrop(crop_._replace(box=(-60, 50, 100, 100)), corners - 2) is None      # no longer on the image
