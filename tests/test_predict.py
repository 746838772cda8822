"""Photos -> crops -> network input -> mesh, with a network that is known by heart."""
import logging

import numpy as np
import pytest

from Dataset.representations.points import grid_triangles
from Dataset.sources import Picture, example_picture
from Network.loading import Loaded
from Network.colours import Colours
from Network.predict import (EXTENT, Crop, Prediction, crop_faces, cut_again, face_mesh, faces_of, grown,
                             network_input, reconstruct)

BLANK = Picture("blank.png", np.full((100, 100, 3), 90, np.uint8))


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


def loaded(images=None, model=None) -> Loaded:
    return Loaded(model or Counts(), {}, "m.keras", 4, 4, images, "random")


def test_the_astronaut_is_found_where_her_face_is():
    face, = crop_faces(example_picture(), 64)
    x, y, w, h = face.box
    assert 150 < x < 200 and 50 < y < 90 and 90 < w < 150 and w == h      # her face, by eye: about (170, 65, 110, 110)
    assert face.image.shape == (64, 64, 3) and face.photo.shape[0] == w


def test_a_box_by_hand_takes_the_place_of_the_detector():
    face, = crop_faces(BLANK, 10, box=(-5, 90, 20, 20))
    assert face.image.shape == (10, 10, 3) and face.pass_name == "by hand"
    for box in ((100, 0, 5, 5), (0, 0, 0, 5), (0, 0, 999, 5), (-5, 0, 5, 5)):
        with pytest.raises(ValueError, match="blank.png: box .* does not lie on the picture of 100x100 pixels"):
            crop_faces(BLANK, 10, box=box)


def test_pictures_without_a_face(caplog):
    with pytest.raises(ValueError, match="blank.png: no face found"):
        list(faces_of([BLANK], loaded()))
    with caplog.at_level(logging.WARNING):
        faces = list(faces_of([BLANK, example_picture()], loaded()))
    assert len(faces) == 1 and "blank.png: no face found; skipped" in caplog.text
    with pytest.raises(ValueError, match="takes one picture"):
        list(faces_of([example_picture(), BLANK], loaded(), every_face=True))


def test_pictures_are_read_one_by_one():
    """The second picture is not asked for before the first one's face is taken: a stream holds one at a time."""
    asked = []

    def source():
        for number in range(2):
            asked.append(number)
            yield example_picture()
    faces = faces_of(source(), loaded())
    next(faces)
    assert asked == [0]


def test_a_box_grows_about_its_centre():
    assert grown((10, 20, 100, 50), 1.2) == (0, 15, 120, 60)
    assert grown((10, 20, 100, 50), 1.0) == (10, 20, 100, 50)
    face, = crop_faces(example_picture(), 64)
    wide, = crop_faces(example_picture(), 64, margin=1.5)
    assert wide.box == grown(face.box, 1.5) and wide.image.shape == face.image.shape


def test_network_input_is_stretched_image_by_image():
    batch = network_input([crop(0), crop(100)])
    assert batch.shape == (1, 2, 4, 4, 3) and batch.dtype == np.float32
    assert batch.min() == 0 and batch.max() == 1 and batch[0, 1, 1, 1, 0] < 1e-6       # 100 is that image's smallest
    with pytest.raises(ValueError, match="at least one face"):
        network_input([])


@pytest.mark.parametrize("fixed, given, taken", [(None, 3, 3), (8, 3, 8), (2, 3, 2), (8, 8, 8)])
def test_a_fixed_number_of_images_is_met(fixed, given, taken):
    model = Counts()
    assert reconstruct(loaded(fixed, model), [crop(i) for i in range(given)]).points[0, 0] == taken
    if fixed == 8 and given == 3:
        np.testing.assert_array_equal(model.images[0, 0], model.images[0, 3])


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="m.keras: predicts points that are not finite"):
        reconstruct(loaded(model=lambda images, training: np.full((1, 4, 3), np.nan)), [crop()])


def test_only_an_ordered_prediction_is_a_mesh_and_its_coat_colours_it():
    points = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    cloud = face_mesh(Prediction(points, [crop()]), ordered=False)
    assert len(cloud.triangles) == 0 and cloud.colours is None
    mesh = face_mesh(Prediction(points, [crop()]), ordered=True)
    np.testing.assert_array_equal(mesh.triangles, grid_triangles(8))
    assert mesh.colours is None and face_mesh(Prediction(points, [], None, Colours(64)), ordered=True).colours is None


def test_only_a_frontal_photo_colours_what_has_no_places():
    points = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    ordered = loaded(model=lambda images, training: points[None])._replace(order="grid")
    assert face_mesh(reconstruct(ordered, [crop(pass_name="profile")]), ordered=True).colours is None


def test_a_badly_cut_face_is_cut_again_about_its_places():
    """A face of 40 pixels about (130, 70), in a crop of 100 about (100, 100): the new crop is 40 / 0.91 about it."""
    whole = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    crop_ = Crop(whole[50:150:4, 50:150:4], whole[50:150, 50:150], (50, 50, 100, 100), "x", "profile", whole)
    corners = (np.array([[110, 50], [150, 90], [130, 60]]) - 50) / 100
    again = cut_again(crop_, corners)
    assert 40 / EXTENT < 50
    side = 50                                                                   # never less than half
    assert again.box == (130 - side // 2, 70 - side // 2, side, side) and again.image.shape == (25, 25, 3)
    np.testing.assert_array_equal(again.photo, whole[45:95, 105:155])
    moved = (np.array([[110, 50], [150, 90], [130, 60]]) - again.box[:2]) / side
    assert cut_again(again, moved) is None                                      # lies well now
    assert cut_again(crop_._replace(whole=None), corners) is None               # nothing to cut from
    assert cut_again(crop_, corners - 2).box == (50 - 25, 50 - 25, 50, 50)     # by half its side at most
    assert cut_again(crop_._replace(box=(-60, 50, 100, 100)), corners - 2) is None      # no longer on the picture
