"""Evaluation/figures/preview.py and surface.py: what is drawn where, in which colours, with a smooth boundary."""
import numpy as np
import pytest

from Dataset.geometry.mesh import Mesh
from Dataset.io.images import read_image
from Dataset.rendering.texture import grid_uv
from Dataset.representations.points import grid_triangles
from Evaluation.figures.preview import GAP, OPACITY, OVER, PANEL, panel_of, preview, write_preview
from Evaluation.figures.splat import Frame
from Evaluation.figures.surface import Surface, Turned, clay_of, texture_of
from tests.clouds import face

SIDE = 40
BLUE = np.zeros((30, 60, 3), np.uint8) + np.array([220, 0, 0], np.uint8)        # BGR
RED = np.tile(np.array([[230, 30, 30]], np.uint8), (SIDE * SIDE, 1))            # RGB
WHITE = (255, 255, 255)


def mesh(**more) -> Mesh:
    return Mesh(face(side=SIDE), grid_triangles(SIDE), **more)


def panels(image: np.ndarray) -> list[np.ndarray]:
    """The six panels, row by row, without their captions."""
    assert image.shape == (2 * (PANEL + GAP), 3 * PANEL, 3) and image.dtype == np.uint8 and image.shape[1] >= 1400
    return [image[row * (PANEL + GAP) + GAP:(row + 1) * (PANEL + GAP), column * PANEL:(column + 1) * PANEL]
            for row in range(2) for column in range(3)]


def cover(panel: np.ndarray) -> float:
    """Fraction of a panel that is not white."""
    return float((panel.astype(int).min(-1) < 250).mean())


def test_what_stands_where(tmp_path):
    """The photo as it is, the face in its own colours, unlit, and shaded without: grey."""
    write_preview(tmp_path / "demo.png", [panel_of(BLUE)], mesh(colours=RED))
    photo, front, across, over, clay, profile = panels(read_image(tmp_path / "demo.png"))
    assert (photo[PANEL // 2, 2] == [220, 0, 0]).all() and (photo[2, 2] == 255).all()
    assert cover(photo) == pytest.approx(0.5, abs=0.02) and cover(over) == 0       # no position in the photo is known
    for panel in (front, across):
        inside = panel[(panel.astype(int).sum(-1) < 400)]
        assert (np.abs(inside.astype(int) - [30, 30, 230]).max(-1) <= 1).mean() > 0.95
    for panel in (clay, profile):
        grey = panel[PANEL // 2 - 40:PANEL // 2 + 40, PANEL // 2 - 20:PANEL // 2 + 20].astype(int)
        assert (np.ptp(grey, axis=-1) < 40).all() and grey.std() > 3
    assert cover(front) > cover(across) > cover(profile) > 0.05
    assert cover(front) == pytest.approx(cover(clay), abs=1e-3)


def test_positive_yaw_turns_the_face_to_image_right():
    points = face(side=SIDE)
    colours = np.where((points[:, 2] > 0.9 * points[:, 2].max())[:, None], RED, 200).astype(np.uint8)       # the nose
    images = [Turned(mesh(colours=colours), yaw, 120, Frame.around(points)).coloured().astype(int)
              for yaw in (-30.0, 0.0, 30.0)]
    left, middle, right = (np.nonzero(image[..., 2] > image[..., 0] + 60)[1].mean() for image in images)
    assert left < middle - 5 and middle + 5 < right


def test_the_mesh_over_the_photo_lies_where_it_is_said_to():
    """Also where the photo is not square: its pixels are the panel's but for size and shift."""
    photo = np.full((300, 600, 3), 200, np.uint8)
    panel = panel_of(photo)
    assert panel.scale == pytest.approx(0.8) and panel.shift.tolist() == [0, 120] and panel.image.shape[0] == PANEL
    placed = face(side=SIDE) * (60, -60, 60) + (450, 150, 0)
    over = panels(preview([panel], mesh(), None, placed))[3]
    rows, columns = np.nonzero(np.abs(over.astype(int) - panel.image).max(-1) > 8)
    assert [columns.min(), columns.max() + 1] == pytest.approx(0.8 * np.array([placed[:, 0].min(), placed[:, 0].max()]),
                                                               abs=1.5)
    assert [rows.min(), rows.max() + 1] == pytest.approx(
        0.8 * np.array([placed[:, 1].min(), placed[:, 1].max()]) + 120, abs=1.5)
    seen = over[rows, columns].astype(float)        # of the mesh's colour, and the photo shows through
    assert (seen <= OPACITY * max(OVER) + (1 - OPACITY) * 200 + 1).all() and (np.ptp(seen, axis=-1) > 5).mean() > 0.9
    assert cover(panels(preview([panel], mesh(), None, np.full_like(placed, np.nan)))[3]) == 0


def test_a_texture_is_finer_than_the_mesh():
    """A square of four triangles shows every texel of its texture, v up, and none from beyond it."""
    side, texture = 2, np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    points = np.array([[0, 0, 0], [80, 0, 0], [0, 80, 0], [80, 80, 0]], float)
    corners = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], float)
    drawn = Surface(points, grid_triangles(side), 80).draw(texture_of(texture, corners, grid_triangles(side)))
    assert drawn.cover.min() > 0.7          # a pixel's corner on the diagonal may belong to neither
    middle = (drawn.colour / drawn.cover[..., None]).reshape(8, 10, 8, 10, 3)[:, 5, :, 5]
    wanted = texture.astype(float)          # half a pixel, a twentieth of a texel, off its middle
    for axis in (0, 1):
        following = np.concatenate([np.take(wanted, range(1, 8), axis), np.take(wanted, [7], axis)], axis)
        wanted = 0.95 * wanted + 0.05 * following
    assert np.abs(middle - wanted).max() < 8
    assert np.abs(grid_uv(2) - 0.5).max() == 0.25


def test_the_boundary_is_smooth():
    """A slanted edge passes through every shade between the face and the paper."""
    points = np.array([[10.3, 5.7, 0], [91.1, 13.2, 0], [17.9, 88.4, 0]])
    triangles = np.array([[0, 2, 1]])
    drawn = Surface(points, triangles, 100).draw(clay_of(np.tile([0.0, 0, 1], (3, 1)), triangles))
    assert set(np.unique(drawn.cover)) == {0, 0.25, 0.5, 0.75, 1}
    assert drawn.cover.sum() == pytest.approx(np.linalg.det(points[1:, :2] - points[0, :2]) / 2, rel=0.005)
    assert (drawn.over(np.full((100, 100, 3), WHITE, np.uint8))[drawn.cover == 0] == 255).all()
    assert Surface(points, triangles[:, ::-1], 100).draw(lambda seen: 0).cover.max() == 0       # its back


def test_a_cloud_and_several_photos():
    """Without triangles; four photos in a square, the last four."""
    colours = [np.full((40, 40, 3), value, np.uint8) for value in (10, 60, 110, 160, 210)]
    cloud = Mesh(face(900), colours=np.tile(RED[:1], (900, 1)))
    photos, front, _, over, clay, profile = panels(preview([panel_of(photo) for photo in colours], cloud))
    half = PANEL // 2
    assert [photos[y, x, 0] for y in (10, half + 10) for x in (10, half + 10)] == [60, 110, 160, 210]
    assert cover(over) == 0 and cover(front) > cover(profile) > 0.05
    red = front[half, half].astype(int)
    assert red[2] > red[0] + 60 and np.ptp(clay[half, half].astype(int)) < 40


def test_wrong_input():
    with pytest.raises(ValueError, match="^preview: wants at least one photo, got none$"):
        preview([], mesh())
    with pytest.raises(ValueError, match=r"^photo: must be \(H, W, 3\) uint8, got \(4, 4, 2\) uint8$"):
        panel_of(np.zeros((4, 4, 2), np.uint8))
