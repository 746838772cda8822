"""Evaluation/views/volume.py: a lit ball, and where the outline lies."""
import numpy as np

from Evaluation.views.volume import front_image, outline


def test_a_ball_is_lit_from_the_upper_left():
    row, column, layer = np.meshgrid(*[np.arange(32) + 0.5] * 3, indexing="ij")
    values = 1 / (1 + np.exp(2 * (np.sqrt((row - 16) ** 2 + (column - 16) ** 2 + (layer - 16) ** 2) - 11)))
    image = front_image(values)
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and image[0, 0, 0] == 0
    grey = image[..., 0].astype(int)
    assert grey[11, 12] > grey[16, 16] + 10 > grey[21, 20] + 60       # up and left, middle, down and right
    assert grey.max() > 240
    drawn = outline(np.zeros((32, 32, 3)), values)
    green = drawn[..., 1] > 0
    distance = np.hypot(row[..., 0] - 16, column[..., 0] - 16)
    assert green.any() and 8.5 < distance[green].min() and distance[green].max() < 11.5
    assert not front_image(np.zeros((16, 16, 16))).any()
