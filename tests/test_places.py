"""Network/places.py: the map between places against a slow twin, affine maps, true faces, and places in one spot."""
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.renders import RenderOptions, render_person
from Dataset.representations.points import grid_steps
from Dataset.representations.uvmap import grid_uv
from Dataset.scene import Stage
from Network.places import FARTHEST, PLACES, REACH, MovingMap, _FLAT

SIDE = 12


def drawn(seed: int):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.1, 0.9, (2, PLACES ** 2, 2)).astype(np.float32)
    return places, rng.normal(0, 1, (2, PLACES ** 2)).astype(np.float32), rng.normal(
        0, 1, (2, PLACES ** 2, 1)).astype(np.float32)


def known_uv() -> np.ndarray:
    """u, v (256, 2) of the places, by the representation's own words."""
    steps = grid_steps(PLACES)
    return grid_uv(np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2))


def slow(places, log_variance, trust):
    """Least squares, cell by cell, with u and v of the places as data."""
    uv, found = known_uv(), np.zeros((SIDE, SIDE, 3))
    for row in range(SIDE):
        for column in range(SIDE):
            at = (np.array([column, row]) + 0.5) / SIDE
            logits = trust[:, 0] - log_variance - ((places - at) ** 2).sum(1) / (2 * REACH ** 2)
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            middle, mean = weights @ places, weights @ uv
            covariance = (places - middle).T @ ((places - middle) * weights[:, None]) + _FLAT * np.eye(2)
            slope = np.linalg.solve(covariance, (places - middle).T @ ((uv - mean) * weights[:, None]))
            found[row, column, :2] = mean + np.clip((at - middle) @ slope, -FARTHEST, FARTHEST)
            found[row, column, 2] = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
    return found


def test_against_a_slow_twin():
    arrays = drawn(0)
    found = np.asarray(MovingMap(SIDE)(*arrays))
    assert found.shape == (2, SIDE, SIDE, 3)
    for i in range(2):
        np.testing.assert_allclose(found[i], slow(*(a[i].astype(float) for a in arrays)), atol=2e-3)


def test_an_affine_map_is_found_between_and_a_little_beyond_the_places():
    uv, rng = known_uv(), np.random.default_rng(1)
    turn = np.array([[0.55, 0.2], [0.1, -0.6]])
    places = ((uv - 0.5) @ turn + [0.5, 0.52]).astype(np.float32)
    found = np.asarray(MovingMap(32)(places[None], np.zeros((1, 256), np.float32), np.zeros((1, 256, 1))))[0]
    centres = (np.arange(32) + 0.5) / 32
    truth = (np.stack(np.meshgrid(centres, centres), -1) - [0.5, 0.52]) @ np.linalg.inv(turn) + 0.5
    near = (truth > -0.02).all(-1) & (truth < 1.02).all(-1)
    assert near.sum() > 300 and np.abs(found[..., :2] - truth)[near].max() < 0.02
    assert found[near][:, 2].min() > found[~near][:, 2].mean()
    # a place that lies elsewhere and is unsure, or not trusted, moves nothing
    wrong = places + np.where(rng.random((256, 1)) < 0.2, 0.2, 0.0).astype(np.float32)
    off = (wrong != places).any(-1)
    much, none = np.where(off, np.float32(12), np.float32(0)), np.zeros(256, np.float32)
    for doubt, trust, least, most in ((much, none, 0, 0.04), (none, -much, 0, 0.04), (none, none, 0.1, 2)):
        again = np.asarray(MovingMap(32)(wrong[None], doubt[None], trust[None, :, None]))[0]
        assert least <= np.abs(again[..., :2] - truth)[near].max() < most


def test_true_places_give_the_true_map():
    options = RenderOptions(people=1, images=3, size=128, seed=12, yaw=25, pitch=10, roll=15, detect=0, wild=0,
                            glasses=0, buffers=("uv", "mask", "occluded"))
    person = render_person(0, options, Stage(load_face_model(), threads=1))
    places = person["image_points"].reshape(3, -1, 2).astype(np.float32) / 128
    hidden = np.where(person["visible"].reshape(3, -1), 0.0, 10.0).astype(np.float32)
    found = np.asarray(MovingMap(128)(places, hidden, np.zeros((3, 256, 1), np.float32)))[..., :2]
    for i in range(3):
        error = 128 * np.linalg.norm(found[i] - person["uv"][i], axis=-1)[person["mask"][i] > 0]       # cells
        assert np.median(error) < 0.8 and error.mean() < 1.5


@pytest.mark.parametrize("places", [np.full((1, 256, 2), 0.5, np.float32), np.full((1, 256, 2), -0.1, np.float32)])
def test_places_in_one_spot_break_nothing(places):
    tf = pytest.importorskip("tensorflow")
    inputs = [tf.constant(x) for x in (places, np.zeros((1, 256), np.float32), np.zeros((1, 256, 1), np.float32))]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        found = MovingMap(SIDE)(*inputs)
    assert np.isfinite(found).all() and np.abs(found[..., :2]).max() < 2
    for gradient in tape.gradient(found, inputs):
        assert np.isfinite(gradient).all()
