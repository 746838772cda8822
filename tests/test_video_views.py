"""Evaluation/views/video.py and the new views of a photo: what is drawn where."""
from types import SimpleNamespace

import numpy as np
import pytest

from Evaluation.figures.overlay import Overlay
from Evaluation.views.registry import VIEWS, make_viewer
from Evaluation.views.uv import grid_lines, lift
from Evaluation.views.uv_photos import TILE, ViewWriter
from Evaluation.views.video import VIEWS as VIDEO, Projection, frame_drawer
from Evaluation.views.volume import SLICES, TILE as SLICE, VolumeViewWriter, slices
from Network.commands.demo_options import VIDEO_VIEWS

UVNET = SimpleNamespace(maps="uv", network="uvnet", views=VIEWS, source="run")


def uv_map(size: int = 32) -> np.ndarray:
    """u grows to the right, v upwards; nothing in a border of 4 px. Not by a multiple of the lines' spacing: some
    pixels lie on a line."""
    steps = 0.02 + 0.93 * (np.arange(size) + 0.5) / size
    uv = np.dstack(np.broadcast_arrays(steps, steps[::-1, None])).astype(np.float32)
    uv[:4] = uv[-4:] = uv[:, :4] = uv[:, -4:] = np.nan
    return uv


def test_the_options_and_the_views_agree():
    assert set(VIDEO_VIEWS) == set(VIDEO) <= set(VIEWS)


@pytest.mark.parametrize("view", VIDEO)
def test_a_projection_lies_on_the_face_of_the_frame(view):
    frame = np.full((80, 100, 3), 60, np.uint8)
    face = SimpleNamespace(box=np.array([20.2, 9.8, 64.0]), answer=SimpleNamespace(uv=uv_map()))
    drawn = Projection(view)(frame, [face])
    changed = (drawn != frame).any(-1)
    rows, columns = np.nonzero(changed)
    assert (frame == 60).all() and changed.sum() > 50
    assert columns.min() >= 28 - 2 and columns.max() < 76 + 2 and rows.min() >= 18 - 2 and rows.max() < 66 + 2
    lost = SimpleNamespace(box=face.box, answer=SimpleNamespace(uv=None))
    assert np.array_equal(Projection(view)(frame, [lost]), frame)


def test_lines_in_a_video_are_those_of_a_photo():
    frame = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    face = SimpleNamespace(box=np.array([0.0, 0.0, 64.0]), answer=SimpleNamespace(uv=uv_map()))
    wanted = grid_lines(frame, lift(uv_map(), (0, 0, 64, 64), frame.shape))
    assert np.array_equal(Projection("lines")(frame, [face]), wanted) and not np.array_equal(wanted, frame)


def test_who_draws_into_a_video():
    assert isinstance(frame_drawer("lines", UVNET, None, False), Projection)
    assert isinstance(frame_drawer(None, UVNET, None, False), Overlay)
    with pytest.raises(ValueError, match="--view lines in a video is for networks that predict UV maps, not for vrn"):
        frame_drawer("lines", SimpleNamespace(maps="volume", network="vrn"), None, False)
    with pytest.raises(ValueError, match="--view must be one of lines, points, texture in a video, got 'swap'"):
        Projection("swap")


def test_what_the_network_gives_as_views():
    uv = uv_map()
    mask = np.isfinite(uv[..., 0])
    visible = mask.copy()
    visible[:, :16] = False
    maps = SimpleNamespace(uv=uv, mask=mask, visible_mask=visible)
    photo = np.full((64, 64, 3), 60, np.uint8)
    for view, wanted in (("mask", mask), ("visible", visible)):
        image = ViewWriter(view).draw(photo, maps)
        assert np.array_equal(image[::2, ::2], np.repeat(255 * wanted[..., None].astype(np.uint8), 3, -1))
    image = ViewWriter("uv").draw(photo, maps)
    assert (image[:8] == 0).all() and (image[..., 0] == 0).all()
    np.testing.assert_allclose(image[33, 33, [2, 1]] / 255, uv[16, 16], atol=0.003)      # u red, v green
    row = ViewWriter("row").draw(photo, maps)
    assert row.shape == (TILE + 20, 8 * TILE, 3)
    assert len({row[20:, i * TILE:(i + 1) * TILE].tobytes() for i in range(8)}) == 8


def test_slices_show_the_layers_of_a_volume():
    values = np.zeros((32, 32, 40), np.float32)
    values[8:24, 4:28, 10:31] = 1
    values[8:24, 4:28, 20:31] = 0.6
    sheet = slices(values)
    assert sheet.shape == (3 * (SLICE + 20), SLICES * SLICE, 3)
    tile = sheet[20:20 + SLICE, :SLICE]                 # the first layer after the nearest one
    assert tile[SLICE // 2, SLICE // 2, 0] == 255 and tile[2, 2, 0] == 0
    last = sheet[20:20 + SLICE, -SLICE:]
    assert abs(int(last[SLICE // 2, SLICE // 2, 0]) - 153) <= 1
    level = sheet[SLICE + 40:2 * SLICE + 40, :SLICE]    # a level cut: columns to the right, depth down
    middle = level[:, SLICE // 2, 0]
    assert middle[round(SLICE * 15 / 40)] == 255 and middle[round(SLICE * 5 / 40)] == 0
    assert abs(int(middle[round(SLICE * 25 / 40)]) - 153) <= 1 and middle[round(SLICE * 35 / 40)] == 0
    assert slices(np.zeros((8, 8, 8))).shape == sheet.shape


def test_views_of_a_volume():
    values = np.zeros((32, 32, 36), np.float32)
    values[8:24, 8:24, 12:30] = 1
    system = SimpleNamespace(network="vrn", source="run", views=("volume", "slices"), volume=lambda: values)
    photo = np.full((64, 64, 3), 60, np.uint8)
    for view, height in (("volume", 2 * SLICE + 20), ("slices", 3 * (SLICE + 20))):
        viewer = make_viewer(view, system)
        viewer.draw(photo, (0, 0, 64, 64), photo)
        assert viewer.file.image.shape[0] == height and viewer.file.image.std() > 5
    with pytest.raises(ValueError, match="view must be one of volume, slices, got 'lines'"):
        VolumeViewWriter("lines")
