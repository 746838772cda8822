"""Dataset/representations/uvmap.py: positions come back, on any face and in any image; masks against a slow twin."""
from functools import lru_cache

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.closest import ClosestPoints
from Dataset.rendering.raycast import Hits, Scene
from Dataset.representations import points, uvmap
from Dataset.synthesis.scene import pose_vertices

CAMERA = look_at_face(96, 700.0, 290.0)


@lru_cache(maxsize=None)
def face(seed: int, turn: float = 0.0) -> np.ndarray:
    """A random, expressive subject (seed 0: the mean face), turned by yaw degrees."""
    model, rng = load_face_model(), np.random.default_rng(seed)
    vertices = model.shape(model.sample_identity(rng), model.sample_expression(rng)) if seed else model.shape()
    return pose_vertices(vertices, np.array([turn, 0.3 * turn, 0.2 * turn, 0, 0, 0]))


@lru_cache(maxsize=None)
def seen(seed: int, turn: float = 0.0) -> uvmap.UVMap:
    return uvmap.encode(face(seed, turn), CAMERA, threads=1)


def at(grid: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Positions (K, 3) of a grid (128, 128, 3) at fractional rows and columns."""
    low = np.minimum(positions.astype(int), 126)
    (row, column), (down, across) = low.T, (positions - low).T[..., None]
    upper = grid[row, column] * (1 - across) + grid[row, column + 1] * across
    return upper * (1 - down) + (grid[row + 1, column] * (1 - across) + grid[row + 1, column + 1] * across) * down


def test_positions_and_uv_undo_each_other():
    positions = np.array([[0, 0], [127, 127], [3.25, 90.5]])
    uv = uvmap.grid_uv(positions)
    np.testing.assert_allclose(uv, [[0.5 / 128, 1 - 0.5 / 128], [127.5 / 128, 0.5 / 128],
                                    [91 / 128, 1 - 3.75 / 128]])
    np.testing.assert_allclose(uvmap.grid_positions(uv), positions, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_grid_points_come_back_from_the_skin(seed):
    """Position -> nearest point of the skin -> uv -> position, for every grid point that is none of a strip."""
    model, vertices = load_face_model(), face(seed)
    chart, grid = uvmap.atlas(model), points.encode(vertices)
    skin = np.flatnonzero((chart.face != uvmap.NONE) & ~chart.inside)
    near = ClosestPoints(vertices, model.triangles[skin])(grid.reshape(-1, 3))
    uv = np.einsum("nk,nkc->nc", near.weights, chart.corners[skin[near.triangle]])
    error = np.linalg.norm(at(grid, np.clip(uvmap.grid_positions(uv), 0, 127)) - grid.reshape(-1, 3), axis=1)
    closed = np.zeros((128, 128), bool)
    closed[tuple(np.rint(uvmap.grid_positions(chart.strip_uv)).astype(int).T)] = True
    median, most, nearly_all = np.percentile(error[~closed.ravel()], [50, 90, 99])
    assert median < 0.1 and most < 0.3 and nearly_all < 1.0


@pytest.mark.parametrize("seed, turn", [(0, 0.0), (1, 20.0), (2, -45.0)])
def test_pixels_come_back(seed, turn):
    """Pixel -> uv -> position on the subject's grid -> projected: the pixel, and in front of nothing else."""
    found = uvmap.decode(seen(seed, turn))
    projected = CAMERA.project(at(points.encode(face(seed, turn)), found.grid))
    error = np.hypot(projected.x - found.pixels[:, 0], projected.y - found.pixels[:, 1])
    median, most, nearly_all = np.percentile(error, [50, 90, 99])
    assert median < 0.06 and most < 0.16 and nearly_all < 0.5          # pixels of 2.4 mm
    assert len(found.grid) > 2000 and found.size == 96


def test_frontal_map_pinned():
    """Of the mean face: u grows to the right of the image, v upwards, and the whole square is used."""
    uv, mask, visible_mask = seen(0)
    assert mask.sum() == pytest.approx(3364, abs=5) and (visible_mask == mask).all()
    assert uv.dtype == np.float32 and np.isfinite(uv[mask]).all() and np.isnan(uv[~mask]).all()
    assert np.nanmin(uv) < 0.03 and np.nanmax(uv) > 0.97
    np.testing.assert_allclose(uv[48, 48], [0.5, 0.572], atol=0.02)
    assert (np.diff(uv[48, :, 0][mask[48]]) > 0).mean() > 0.95
    assert (np.diff(uv[:, 48, 1][mask[:, 48]]) < 0).mean() > 0.95


def test_no_seams_within_the_mask():
    """From pixel to pixel a frontal face's uv moves little: no cell of the atlas lies elsewhere."""
    uv, mask, _ = seen(0)
    for axis in (0, 1):
        step = np.abs(np.diff(uv, axis=axis)).max(-1)[np.diff(mask, axis=axis) == 0]
        step = step[np.isfinite(step)]
        assert np.median(step) < 0.02 and step.max() < 0.16


@pytest.mark.parametrize("seed, turn", [(0, 0.0), (1, 20.0), (2, -45.0), (3, 80.0)])
def test_masks_against_all_samples_of_all_pixels(seed, turn):
    model, chart, vertices = load_face_model(), uvmap.atlas(load_face_model()), face(seed, turn)
    numbers = uvmap._facing(vertices, model, uvmap.drawn_triangles(model), CAMERA)
    head = Scene(vertices, model.triangles[numbers], 1)
    first = uvmap._bare(head, numbers, CAMERA, None)
    uv, shown = uvmap._positions(chart, first)
    uvmap._close(chart, vertices, CAMERA, first, uv, shown, 1)
    number, offsets = np.append(numbers, uvmap.NOTHING), (np.indices((8, 8)).reshape(2, -1).T + 0.5) / 8
    row, column = np.nonzero(shown)
    hits = head.cast_rays(*CAMERA.rays(np.stack([column, row], -1)[:, None] + offsets))
    slow = np.zeros_like(shown)
    slow[row, column] = uvmap._shown(chart, number[hits.triangle], hits.barycentric).all(1)
    assert (slow != seen(seed, turn).mask).sum() <= 2
    assert (shown & ~slow).sum() > 60           # border pixels fell out


def test_triangles_that_face_the_camera_are_enough():
    """A closed head's first hits are the same without the triangles that turn their back."""
    model = load_face_model()
    everything = uvmap.drawn_triangles(model)
    half = uvmap._facing(face(1, 20.0), model, everything, CAMERA)
    assert 0.5 < len(half) / len(everything) < 0.7
    hits = [uvmap._bare(Scene(face(1, 20.0), model.triangles[n], 1), n, CAMERA, None) for n in (everything, half)]
    assert (hits[0].triangle != hits[1].triangle).mean() < 0.001


def test_what_stands_before_the_face_is_looked_through():
    """A board before the right half of the image: same uv and mask, and nothing of it counts as seen."""
    model, whole = load_face_model(), seen(1, 20.0)
    first = uvmap._bare(Scene(face(1, 20.0), model.triangles), np.arange(len(model.triangles)), CAMERA, None)
    board = np.zeros((96, 96), bool)
    board[:, 50:] = True
    hits = Hits(np.where(board, uvmap.OTHER, first.triangle), np.where(board[..., None], 0, first.barycentric),
                first.depth)
    found = uvmap.encode(face(1, 20.0), CAMERA, numbers=np.arange(len(model.triangles)), seen=hits)
    bare = uvmap.encode(face(1, 20.0), CAMERA, numbers=np.arange(len(model.triangles)))
    np.testing.assert_array_equal(found.mask, bare.mask)
    np.testing.assert_array_equal(found.uv, bare.uv)
    assert not found.visible_mask[:, 50:].any() and (found.visible_mask == found.mask)[:, :50].all()
    assert (bare.mask != whole.mask).mean() < 0.03        # lashes are all that differs
    assert found.visible_mask.any() and found.mask[:, 50:].any()


def test_size_is_the_cameras_view_in_other_pixels():
    small = uvmap.encode(face(0), CAMERA, 32)
    assert small.mask.shape == (32, 32)
    inner = np.zeros((32, 32), bool)
    inner[12:20, 12:20] = True
    np.testing.assert_allclose(small.uv[inner], seen(0).uv[1::3, 1::3][inner], atol=1e-4)      # the same centres


def test_erode_takes_one_pixel_off():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 3:9] = True
    expected = np.zeros((9, 9), bool)
    expected[3:6, 4:9] = True
    np.testing.assert_array_equal(uvmap.erode(mask), expected)
    assert uvmap.erode(mask).dtype == bool and uvmap.erode(np.ones((4, 4), bool)).all()


def test_decode_says_pixels_and_positions():
    uv = np.full((4, 4, 2), np.nan, np.float32)
    uv[1, 2], uv[3, 3] = (0.5, 0.25), (1.2, -0.1)
    found = uvmap.decode(uv)
    np.testing.assert_array_equal(found.pixels, [[2.5, 1.5], [3.5, 3.5]])
    np.testing.assert_allclose(found.grid, [[95.5, 63.5], [127, 127]])        # what lies outside is clipped
    np.testing.assert_array_equal(found.weights, [1, 1])
    weighed = uvmap.decode(uv, ~np.isnan(uv[..., 0]), np.arange(16.0).reshape(4, 4), stride=2)
    np.testing.assert_array_equal(weighed.pixels, [[3.5, 3.5]])
    assert weighed.weights == [15] and weighed.size == 4 and weighed.grid.dtype == np.float64
    nothing = uvmap.decode(uv, np.zeros((4, 4), bool))
    assert nothing.grid.shape == nothing.pixels.shape == (0, 2) and nothing.weights.shape == (0,)


def test_bad_input():
    uv = np.zeros((4, 4, 2))
    with pytest.raises(ValueError, match=r"vertices must be \(4881, 3\), received shape \(5, 3\)"):
        uvmap.encode(np.zeros((5, 3)), CAMERA)
    with pytest.raises(ValueError, match=r"hits must be \(96, 96\), received \(2, 2\)"):
        uvmap.encode(face(0), CAMERA, seen=Hits(np.zeros((2, 2), int), np.zeros((2, 2, 3)), np.zeros((2, 2))))
    with pytest.raises(ValueError, match=r"a map must be \(S, S, 2\) and its mask \(S, S\)"):
        uvmap.decode(uv[:2])
    with pytest.raises(ValueError, match="a mask must be bool and the stride at least 1"):
        uvmap.decode(uv, np.ones((4, 4)))
    with pytest.raises(ValueError, match="weights must be"):
        uvmap.decode(uv, weights=np.ones(3))
