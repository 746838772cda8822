"""The image of before and after."""
import numpy as np

from Dataset.fitting.shape_from_shading import Detail
from Evaluation.views.detail import detail_image


def test_before_and_after_stand_side_by_side():
    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    flat, tilted = (np.where(mask[..., None], n, np.nan) for n in ([0, 0, 1.0], [-0.6, 0, 0.8]))
    blank = np.where(mask, 1.0, np.nan)
    detail = Detail(mask, tilted, flat, blank, blank, blank, np.zeros(9))
    photo = np.full((16, 16, 3), 77, np.uint8)
    row = detail_image(photo, detail)
    assert row.shape == (276, 5 * 256, 3) and (row[148, 128] == 77).all()
    tiles = [row[20:, 256 * k:256 * (k + 1)] for k in range(5)]
    assert (tiles[1][0, 0] == 255).all() and (tiles[3][0, 0] == 0).all()
    # lamp (-0.6, 0.45, 0.66) of length 1.0; flat: 0.12 + 0.8 * 0.66; tilted towards it: brighter
    assert tiles[1][128, 128, 0] == round(255 * (0.12 + 0.8 * 0.66 / np.linalg.norm([-0.6, 0.45, 0.66])))
    assert tiles[2][128, 128, 0] > tiles[1][128, 128, 0]
    np.testing.assert_array_equal(tiles[3][128, 128], [255, 128, 128])
    np.testing.assert_array_equal(tiles[4][128, 128], [230, 128, 51])
    assert detail_image(photo, detail, flat).shape == (276, 7 * 256, 3)
