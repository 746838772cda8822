"""Evaluation/metrics/stability.py: known noise, lag and bias of made targets are measured as they were put in."""
import numpy as np
import pytest

from Dataset.geometry.smoothing import Average, OneEuro
from Dataset.synthesis.video import SyntheticVideo, VideoOptions
from Evaluation.metrics.stability import face_size, jitter, lag, measure, sigma, uv_errors
from tests.bench.stability_table import stability_table
from tests.map_samples import grid_atlas, sample_map

SIDE, FRAMES = 100.0, 120
LATTICE = np.stack(np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 16)), -1).reshape(-1, 2)


def moving(frames=FRAMES, speed=1.0):
    """A flat face of 100 px that swings; 1 unit of `speed` is about 1.3 px a frame."""
    t = np.arange(frames)
    path = np.stack([60 + 25 * np.sin(speed * t / 13), 80 + 10 * np.sin(speed * t / 9 + 1)], -1)
    return path[:, None] + SIDE * LATTICE


def still(frames=FRAMES):
    return np.repeat(20 + SIDE * LATTICE[None], frames, 0)


@pytest.mark.parametrize("truth", [still(), moving()])
def test_noise_comes_out_as_it_was_put_in(truth):
    shown = truth + np.random.default_rng(0).normal(0, 0.5, truth.shape)
    found = measure(shown, truth)
    # distances of two-dimensional normal noise: sigma sqrt(pi / 2); differences of two: sqrt(2) times that
    assert found.error == pytest.approx(0.5 * np.sqrt(np.pi / 2), rel=0.02)
    assert found.jitter == pytest.approx(0.5 * np.sqrt(np.pi), rel=0.02)
    assert found.sigma == pytest.approx(0.5 * np.sqrt(2), rel=0.02)
    assert found.found == 1
    # 1 % of a face of one side is 1 % of the atlas that it fills
    assert found.uv_jitter == pytest.approx(found.jitter, rel=0.12)


def test_a_constant_error_is_no_jitter():
    truth = moving()
    found = measure(truth + (3.0, -4.0), truth)
    assert found.error == pytest.approx(5.0) and found.jitter < 1e-9 and found.sigma < 1e-9
    assert abs(found.lag) < 0.1 and found.uv_sigma < 1e-9


@pytest.mark.parametrize("delay", [-1.0, 0.0, 1.0, 2.5, 6.0, 9.25])
def test_a_known_lag_is_found(delay):
    truth = moving(FRAMES + 40)
    at = np.arange(20, FRAMES + 20) - delay
    low = np.floor(at).astype(int)
    part = (at - low)[:, None, None]
    shown = (1 - part) * truth[low] + part * truth[low + 1] + np.random.default_rng(1).normal(0, 0.3, (FRAMES, 256, 2))
    found = measure(shown, truth[20:FRAMES + 20], rate=25.0)
    assert found.lag == pytest.approx(delay * 40, abs=3)


@pytest.mark.parametrize("smoother, frames", [(Average(2), 0.5), (Average(5), 2.0), (Average(3, True), 2.0)])
def test_the_lag_of_filters_is_theirs(smoother, frames):
    truth = moving(speed=0.5)
    shown = np.stack([smoother(points, n / 30) for n, points in enumerate(truth)])
    assert lag(shown, truth) == pytest.approx(frames, abs=0.2)


def test_one_euro_calms_the_still_and_trails_less_than_an_average_as_calm():
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.5, (2, FRAMES, 256, 2))
    numbers = {}
    for name, make in (("one-euro", lambda: OneEuro(1.0, 12.0)), ("average", lambda: Average(9))):
        for kind, truth, added in (("still", still(), noise[0]), ("moving", moving(speed=1.5), noise[1])):
            smoother = make()
            shown = np.stack([smoother(p, n / 30, SIDE) for n, p in enumerate(truth + added)])
            numbers[name, kind] = measure(shown, truth)
    assert numbers["one-euro", "still"].jitter < 0.3 * 0.886
    assert numbers["one-euro", "moving"].lag < 0.6 * numbers["average", "moving"].lag
    assert np.isnan(numbers["average", "still"].lag)


def test_what_is_hidden_or_not_found_does_not_count():
    truth, rng = still(), np.random.default_rng(3)
    shown = truth + rng.normal(0, 0.5, truth.shape)
    visible = rng.random(truth.shape[:2]) < 0.6
    shown[~visible] += 1000
    shown[40:52] = np.nan
    found = measure(shown, truth, visible)
    assert found.error == pytest.approx(0.5 * np.sqrt(np.pi / 2), rel=0.03)
    assert found.jitter == pytest.approx(0.5 * np.sqrt(np.pi), rel=0.03)
    assert found.found == pytest.approx(108 / 120)
    nothing = measure(np.full_like(truth, np.nan), truth)
    assert nothing.found == 0 and np.isnan(nothing[1:]).all()


def test_uv_errors_are_those_of_a_map_made_of_the_grid():
    """Oracle: a turned and bent grid whose map is known at every point by a dense search."""
    u, v = LATTICE.T
    turn = np.array([[0.8, -0.3], [0.35, 0.9]])
    shown = (100 * (LATTICE + 0.08 * np.stack([v * v, u * u], -1)) @ turn.T)[None]
    rng = np.random.default_rng(4)
    moved = rng.uniform(-0.01, 0.01, (256, 2))
    where = np.clip(LATTICE + moved, 0, 1)
    truth = (100 * (where + 0.08 * where[:, ::-1] ** 2) @ turn.T)[None]
    found = uv_errors(shown, truth)[0]
    inner = ((LATTICE > 0.05) & (LATTICE < 0.95)).all(1)
    np.testing.assert_allclose(found[inner], (where - LATTICE)[inner], atol=4e-4)
    flat = shown * (1.0, 1e-3)
    assert np.isnan(uv_errors(flat, flat)).all()


def test_a_map_is_sampled_at_pixel_centres_and_not_beside_the_face():
    y, x = np.mgrid[0:20, 0:20] + 0.5
    uv = np.stack([x / 20, y / 20], -1)
    uv[:, 15:] = np.nan
    points = np.array([[110.0, 60.0], [102.5, 69.0], [117.5, 60.0], [90.0, 60.0], [114.6, 60.0]])
    found = sample_map(uv, np.array([100.0, 50.0, 20.0]), points)
    np.testing.assert_allclose(found[:2], [[0.5, 0.5], [0.125, 0.95]])
    assert np.isnan(found[2:]).all()


def test_the_true_map_of_a_synthetic_head_has_no_jitter_but_its_pixels():
    video = SyntheticVideo(VideoOptions(frames=10, seed=2, head=0.8, width=200, height=160))
    expected, atlas = grid_atlas(), []
    truth, visible = [], []
    for n in range(0, 10, 2):
        face, = video.truth(n)
        low, high = face.keypoints.min(0), face.keypoints.max(0)
        box = np.array([*low - 5, float((high - low).max()) + 10])
        atlas.append(sample_map(video.uv(face, box, 128).uv, box, face.keypoints) - expected)
        truth.append(face.keypoints)
        visible.append(face.visible)
    found = measure(np.array(truth), np.array(truth), np.array(visible), 15.0, np.array(atlas))
    assert found.error == 0 and found.uv_jitter < 0.6       # of the atlas's side; a pixel spans about 1 %
    shaken = np.array(atlas) + np.random.default_rng(0).normal(0, 0.02, (5, 256, 2))
    assert measure(np.array(truth), np.array(truth), np.array(visible), 15.0, shaken).uv_jitter > 3


def test_tables_and_bad_shapes():
    text = stability_table([("none", measure(still(), still()))]).csv()
    assert text.splitlines()[1] == "none,100.0,0.0,0.0,0.0,,0.0,0.0"
    assert face_size(still()[:2]) == pytest.approx([100, 100])
    assert np.isnan(jitter(np.full((3, 2, 2), np.nan))) and np.isnan(sigma(np.full((3, 2, 2), np.nan)))
    with pytest.raises(ValueError, match=r"keypoints must be \(T, K, 2\), predicted and true, got \(3, 2\) and"):
        measure(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"visible must be \(3, 4\) bool"):
        measure(np.zeros((3, 4, 2)), np.zeros((3, 4, 2)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="keypoints must be an ordered grid, got 5 points"):
        uv_errors(np.zeros((3, 5, 2)), np.zeros((3, 5, 2)))
