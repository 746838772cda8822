"""The texture: which photo colours which point."""
import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import rotation_from_euler, to_unit_sphere
from Dataset.representations.points import encode
from Network.inference.texture import Texture, frontal_view, view_of
from Network.layers.grid import resample


def _face():
    return to_unit_sphere(encode(load_face_model().mean, 64).reshape(-1, 3))[0]


def _positions(face, yaw=0.0):
    """Where a 16x16 grid lies in a photo by scaled orthography, in sides."""
    turned = resample(face, 16) @ rotation_from_euler(yaw).T
    return np.stack([0.5 + 0.4 * turned[:, 0], 0.5 - 0.4 * turned[:, 1]], 1)


def _halves():
    photo = np.zeros((100, 100, 3), np.uint8)
    photo[:, :50], photo[:, 50:] = (255, 0, 0), (0, 0, 200)     # blue on image left, red on image right
    return photo


def test_left_is_left_and_rgb():
    face = _face()
    for view in (view_of(face, _positions(face)), frontal_view(face)):
        texture = Texture(len(face))
        texture.add(_halves(), view)
        colours = texture.rgb().reshape(64, 64, 3)
        np.testing.assert_array_equal(colours[32, 20], [0, 0, 255])         # the subject's right = image left
        np.testing.assert_array_equal(colours[32, 44], [200, 0, 0])


def test_a_profile_sees_one_side_only():
    face = _face()
    view = view_of(face, _positions(face, yaw=60))       # turned to his left: the camera sees his right cheek, column 0
    weight = view.weight.reshape(64, 64)
    assert weight[30:40, 10].mean() > 0.3 and weight[30:40, 54].max() < 0.02
    np.testing.assert_allclose(resample(view.position, 16), _positions(face, yaw=60), atol=0.02)


def test_the_squarest_photo_decides():
    face = _face()
    texture = Texture(len(face))
    texture.add(np.full((50, 50, 3), (0, 0, 255), np.uint8), view_of(face, _positions(face, yaw=60)))
    texture.add(np.full((50, 50, 3), (0, 255, 0), np.uint8), view_of(face, _positions(face, yaw=-60)))
    colours = texture.rgb().reshape(64, 64, 3).astype(int)
    assert colours[35, 10, 0] > 240 and colours[35, 10, 1] < 15         # red from the first, RGB
    assert colours[35, 54, 1] > 240 and colours[35, 54, 0] < 15


def test_the_nose_hides_the_cheek_behind_it():
    face = _face()
    view = view_of(face, _positions(face, yaw=50))
    assert 0.2 < (view.weight > 1e-3).mean() < 0.75


def test_nothing_seen_is_none_and_holes_are_filled():
    face = _face()
    texture = Texture(len(face))
    assert texture.rgb() is None and texture.image() is None
    texture.add(np.full((50, 50, 3), 90, np.uint8), view_of(face, _positions(face, yaw=70)))
    assert abs(texture.rgb().astype(int) - 90).max() <= 2          # one colour seen: the rest is continued with it
    assert texture.image().shape == (256, 256, 3)
