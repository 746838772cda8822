"""Answers of per-pixel networks that mislead a fit: specks beside the face, masks that show no face."""
import numpy as np
import pytest

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.representations.depth import encode_depth
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext
from Network.inference.photos import NoFace
from Network.inference.pix2pix import cloud_of
from Network.inference.registry import predictor_of
from Network.inference.uvnet import STRIDE
from tests.test_fitted import crop, fake

SIZE = 96


@pytest.fixture(scope="module")
def depth():
    """(96, 96, 1): what a true pix2pix says of a face."""
    options = RenderOptions(subjects=1, images=1, size=SIZE, seed=78, yaw=20, detect=0, clutter=0, glasses=0,
                            buffers=("depth", "visible_mask"))
    found = render_subject(0, options, RenderContext(load_face_model(), threads=1))
    return encode_depth(found["depth"][0], found["visible_mask"][0], found["camera"][0, 0])


def test_specks_beside_a_face_change_nothing(depth):
    """Nearer than the nose and in the crop's corners, where a fit would be drawn to them."""
    specks = depth.copy()
    specks[1:7, 1:7], specks[-6:, -9:], specks[2:5, -8:] = 1.0, 0.9, -0.6
    assert (depth[:8, :10] == -1).all() and (depth[-7:, -10:] == -1).all() and (depth[:6, -9:] == -1).all()
    predictor = predictor_of(fake(depth[None], "pix2pix"))
    for one, other in zip(predictor.read(specks), predictor.read(depth)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(cloud_of(specks), cloud_of(depth))


@pytest.mark.parametrize("where, message", [("everywhere", "points must not all coincide"),
                                            ("few", "at least 6 points with a weight are needed, received 3")])
def test_a_mask_that_shows_no_face_is_none(where, message):
    """A network that has collapsed sees one point in every pixel; a mask may lie between the pixels that are fitted."""
    maps = np.zeros((128, 128, 4), np.float32)
    maps[..., :2] = 0.4
    if where == "everywhere":
        maps[..., 2:] = 1
    else:
        maps[..., 2:] = 1               # one pixel of each block, the one in its middle, is read
        maps[STRIDE // 2::STRIDE, STRIDE // 2::STRIDE, 2:] = 0
        maps[STRIDE // 2:3 * STRIDE:STRIDE, STRIDE // 2, 2:] = 1
    predictor = predictor_of(fake(maps[None]))
    with pytest.raises(NotFittable, match=f"^no face: {message}"):
        predictor.read(maps)
    with pytest.raises(NoFace, match=f"^photo 0: no face: .*{message}"):
        predictor.add(crop(0))
    assert predictor.count == 0
