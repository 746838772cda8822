"""Detail from shading: relief that is known comes nearer; slopes and light by hand and by slow twins; bad input."""
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.fitting.shape_from_shading import DetailOptions, _bent, _light, _slopes, _solve, refine, refine_normals
from Dataset.geometry.normals import normalise
from Dataset.rendering.shading import sh_basis
from Dataset.representations.coefficients import mean_face
from Dataset.synthesis.scene import RenderContext
from tests.relief import angle, relief


@pytest.fixture(scope="module")
def context() -> RenderContext:
    return RenderContext(load_face_model(), threads=1)


@pytest.mark.parametrize("seed", [100, 101, 102])
def test_the_normals_come_nearer_to_those_with_the_waves(context, seed):
    true = relief(seed, 128, context=context)
    found = refine(true.image, true.face, true.mask)
    before, after = (angle(normals, true.normals, found.mask) for normals in (found.coarse, found.normals))
    assert before > 8 and after < 0.93 * before
    assert np.nanmax(np.abs(found.relief)) < 8 and (found.mask <= true.mask).all()
    assert np.isnan(found.normals[~found.mask]).all() and np.isfinite(found.normals[found.mask]).all()
    np.testing.assert_allclose(np.linalg.norm(found.normals[found.mask], axis=1), 1, atol=1e-9)


def test_a_smooth_face_stays_nearly_as_it_is(context):
    true = relief(103, 128, height=0.0, context=context)
    found = refine(true.image, true.face, true.mask)
    assert angle(found.normals, found.coarse, found.mask) < 4       # its skin's freckles and lips are taken for relief


def test_waves_on_a_plain_ball_are_found():
    """White, matt, known exactly: what is left is the linearisation and the light's blind direction."""
    size, y, x = 96, *np.mgrid[0:96, 0:96]
    right, up = (x - 47.5) / 60, (47.5 - y) / 60
    mask = right ** 2 + up ** 2 < 0.5
    smooth = normalise(np.stack([right, up, np.sqrt(np.maximum(1 - right ** 2 - up ** 2, 0.1))], -1))
    depth = np.where(mask, 0.4 * np.sin(x / 2.5) * np.cos(y / 3.5), 0)
    true = _bent(smooth, depth, mask)
    light = np.array([2.5, 0.5, 1.0, 0.6, 0.1, 0, 0, 0, 0])
    linear = np.repeat(np.where(mask, (sh_basis(true) @ light) * 0.3, 0)[..., None], 3, -1)
    image = np.clip(np.rint(255 * np.clip(linear, 0, 1) ** (1 / 2.2)), 0, 255).astype(np.uint8)
    assert image.shape == (size, size, 3)
    found = refine_normals(image, smooth, mask, 1.0, DetailOptions(smooth=12, bend=0.005, robust=0.5))
    assert angle(found.normals, true, mask) < 0.6 * angle(smooth, true, mask)
    inner = mask & (right ** 2 + up ** 2 < 0.4)
    assert np.corrcoef(found.relief[inner], depth[inner])[0, 1] > 0.75


def test_light_comes_back_past_spots():
    rng = np.random.default_rng(0)
    normals = normalise(rng.normal(0, 1, (4000, 3)) + (0, 0, 1.5))
    light = np.array([2, 0.3, 0.8, -0.5, 0.1, 0.1, 0, 0.1, -0.1])
    seen = sh_basis(normals) @ light
    spotted = np.where(rng.random(4000) < 0.15, 0.3 * seen, seen)
    found = sh_basis(normals) @ _light(spotted, normals, DetailOptions())
    assert np.abs(found - seen).mean() < 0.02 * seen.mean()


def test_slopes_of_a_plane_and_of_a_bowl():
    mask = np.ones((6, 7), bool)
    mask[0, 0] = mask[3, 3] = False
    right, up, laplacian = _slopes(mask)
    y, x = np.mgrid[0:6, 0:7].astype(float)
    plane = (2 * x - 3 * y)[mask]
    np.testing.assert_allclose(right @ plane, 2, atol=1e-12)
    np.testing.assert_allclose(up @ plane, 3, atol=1e-12)
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    values = np.random.default_rng(0).normal(0, 1, mask.sum())
    for row, column in np.argwhere(mask):                           # the twin: one pixel at a time
        around = [number[r, c] for r, c in ((row, column + 1), (row, column - 1), (row - 1, column), (row + 1, column))
                  if 0 <= r < 6 and 0 <= c < 7 and mask[r, c]]
        own = number[row, column]
        assert (laplacian @ values)[own] == pytest.approx(sum(values[own] - values[k] for k in around))


def test_an_isolated_pixel_has_no_slope():
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    assert all((part.toarray() == 0).all() for part in _slopes(mask))


def test_nothing_missing_moves_nothing():
    mask = np.ones((8, 8), bool)
    coarse = np.broadcast_to([0.0, 0, 1], (8, 8, 3)).copy()
    depth = _solve(np.zeros((8, 8)), coarse, np.array([1, 1, 1, 1, 0, 0, 0, 0, 0.0]), mask, DetailOptions(),
                   mask.astype(float))
    assert (depth == 0).all()
    np.testing.assert_array_equal(_bent(coarse, np.zeros((8, 8)), mask), coarse)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="image must be"):
        refine(np.zeros((8, 9, 3), np.uint8), mean_face())
    with pytest.raises(ValueError, match="pixels show the face, fewer than 64"):
        refine(np.zeros((64, 64, 3), np.uint8), mean_face(), np.zeros((64, 64), bool))
    with pytest.raises(ValueError, match="bend must be positive"):
        DetailOptions(bend=0)
