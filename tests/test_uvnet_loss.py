"""The uvnet network's loss: a slow twin, numbers by hand, what the confidence learns, what is refused."""
import keras
import numpy as np
import pytest

from Network.losses.points import maps_of_the_face


def sample(rng, size: int, batch: int = 2) -> dict[str, np.ndarray]:
    """A truth as MapSequence gives it: a disc, u and v across it, its upper half hidden."""
    x, y = np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) / size] * 2)
    mask = (np.hypot(x - 0.5, y - 0.5) < rng.uniform(0.3, 0.45, (batch, 1, 1))).astype(np.float32)[..., None]
    eroded = mask * np.roll(mask, 1, 1) * np.roll(mask, -1, 1) * np.roll(mask, 1, 2) * np.roll(mask, -1, 2)
    return {"uv": (np.stack([x, 1 - y], -1) * mask).astype(np.float32), "mask": mask, "eroded": eroded,
            "visible_mask": mask * (y > 0.5)[..., None].astype(np.float32)}


def slow_loss(truth, prediction) -> list[dict[str, float]]:
    """Listing A.2, pixel by pixel."""
    found = []
    for i, p in enumerate(prediction.astype(float)):
        parts = dict.fromkeys(["uv", "mask", "visible_mask", "gradient"] + ["confidence"] * (p.shape[-1] > 5)
                              + ["depth"] * (p.shape[-1] % 2), 0.0)
        uv, mask, visible_mask, eroded = (truth[k][i].astype(float) for k in ("uv", "mask", "visible_mask", "eroded"))
        for r in range(len(p)):
            for c in range(len(p)):
                parts["mask"] += abs(p[r, c, 2] - mask[r, c, 0])
                parts["visible_mask"] += abs(p[r, c, 3] - visible_mask[r, c, 0])
                for k in range(2):
                    parts["uv"] += abs(p[r, c, k] * mask[r, c, 0] - uv[r, c, k])
                    for r2, c2 in ((r + 1, c), (r, c + 1)):
                        if r2 < len(p) and c2 < len(p):
                            result, target = ((a[r2, c2, k] - a[r, c, k]) * eroded[r, c, 0] for a in (p, uv))
                            parts["gradient"] += abs(result - target)
                    if p.shape[-1] > 5:
                        s = p[r, c, k - 2]
                        z2 = (p[r, c, k] - uv[r, c, k]) ** 2 / np.exp(s)
                        parts["confidence"] += 0.005 * mask[r, c, 0] * (s + 14 + 5 * np.log(1 + z2 / 4))
                if p.shape[-1] % 2 and truth["depth"][i][r, c, 0] > -1:
                    parts["depth"] += 0.5 * abs(p[r, c, 4] - truth["depth"][i][r, c, 0])
        found.append(parts)
    return found


@pytest.mark.parametrize("channels", [4, 5, 6, 7])
def test_loss_against_a_slow_twin(channels):
    rng = np.random.default_rng(2)
    truth = {**sample(rng, 12), "depth": rng.choice([-1, 0.2, 0.9], (2, 12, 12, 1)).astype(np.float32)}
    prediction = rng.normal(0.5, 0.5, (2, 12, 12, channels)).astype(np.float32)
    parts = maps_of_the_face(truth, prediction)
    twin = slow_loss(truth, prediction)
    assert set(parts) == set(twin[0])
    for name in parts:
        assert parts[name].shape == (2,) and parts[name].dtype == "float32"
        np.testing.assert_allclose(parts[name], [t[name] for t in twin], rtol=1e-5, err_msg=name)


def test_loss_by_hand():
    """Pinned sums: 16 pixels, no mean anywhere."""
    truth = {"uv": np.full((1, 4, 4, 2), 0.5, np.float32), **{k: np.ones((1, 4, 4, 1), np.float32)
                                                              for k in ("mask", "visible_mask", "eroded")}}
    prediction = np.full((1, 4, 4, 4), 1.0, np.float32)
    prediction[0, 1, 1, 0] = 3.5
    parts = {name: float(value[0]) for name, value in maps_of_the_face(truth, prediction).items()}
    assert parts == {"uv": 31 * 0.5 + 3.0, "mask": 0.0, "visible_mask": 0.0, "gradient": 4 * 2.5}
    empty = {name: np.zeros_like(value) for name, value in truth.items()}
    parts = {name: float(value[0]) for name, value in maps_of_the_face(empty, prediction).items()}
    assert parts == {"uv": 0.0, "mask": 16.0, "visible_mask": 16.0, "gradient": 0.0}        # nothing but the masks


def test_landmarks_and_pose_by_hand():
    """Pinned: ten times 136 differences of 0.25, twenty times 6 of 0.5; nothing of an image without a face."""
    truth = sample(np.random.default_rng(0), 8)
    truth |= {"landmarks": np.full((2, 68, 2), 0.5, np.float32), "pose": np.zeros((2, 6), np.float32)}
    truth["mask"][1] = 0
    maps = np.zeros((2, 8, 8, 4), np.float32)
    prediction = {"maps": maps, "landmarks": truth["landmarks"] + 0.25, "pose": truth["pose"] - 0.5}
    parts = maps_of_the_face(truth, prediction)
    assert list(parts)[-2:] == ["landmarks", "pose"]
    np.testing.assert_allclose(parts["landmarks"], [10 * 136 * 0.25, 0])
    np.testing.assert_allclose(parts["pose"], [20 * 6 * 0.5, 0])
    plain = maps_of_the_face(truth, maps)
    assert list(plain) == list(parts)[:-2]
    for name in plain:
        np.testing.assert_array_equal(parts[name], plain[name])
    with pytest.raises(ValueError, match="the network predicts pose, the data lack it: --extras pose"):
        maps_of_the_face({name: value for name, value in truth.items() if name != "pose"}, prediction)
    with pytest.raises(ValueError, match="the network predicts depth, the data lack it"):
        maps_of_the_face(truth, np.zeros((2, 8, 8, 5), np.float32))


def test_far_errors_do_not_drive_the_confidence():
    """A pixel that is certain and wrong raises its variance by no more than 4 times what a right one lowers it."""
    tf = pytest.importorskip("tensorflow")
    truth = sample(np.random.default_rng(3), 8, 1)
    log_variance = tf.Variable(np.full((1, 8, 8, 2), -13.9, np.float32))
    with tf.GradientTape() as tape:
        loss = maps_of_the_face(truth, tf.concat([truth["uv"] + 0.5, truth["mask"], truth["mask"], log_variance], -1))
        total = tf.reduce_sum(loss["confidence"])
    pull = np.asarray(tf.convert_to_tensor(tape.gradient(total, log_variance)))[truth["mask"][..., 0] > 0.5] / 0.005
    assert -4 <= pull.min() and pull.max() < -3.99


def test_confidence_learns_the_error_and_leaves_uv_alone():
    rng = np.random.default_rng(3)
    truth = sample(rng, 8, 1)
    tensors = [keras.ops.convert_to_tensor(v) for v in (truth["uv"], np.full((1, 8, 8, 2), -4, np.float32))]
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        prediction = tf.concat([tensors[0] + 0.1, truth["mask"], truth["mask"], tensors[1]], -1)
        confidence = tf.reduce_sum(maps_of_the_face(truth, prediction)["confidence"])
    uv, log_variance = tape.gradient(confidence, tensors)
    assert uv is None or not np.any(uv)
    squared = 0.01 * np.exp(4)          # Student's t with 4 degrees: 0 where the variance is the error's
    expected = 0.005 * truth["mask"] * (1 - 5 * squared / (4 + squared)) * np.ones(2)
    np.testing.assert_allclose(log_variance, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name, shape, message", [
    ("uv", (1, 8, 8, 3), "must have one shape"), ("eroded", (1, 8, 4, 1), "must have one shape"),
    (None, (1, 8, 8, 8), r"prediction must have shape \(B, S, S, 4\) or"), (None, (8, 8, 4), "prediction must have")])
def test_loss_refuses(name, shape, message):
    truth, prediction = sample(np.random.default_rng(0), 8, 1), np.zeros((1, 8, 8, 4), np.float32)
    if name:
        truth[name] = np.zeros(shape, np.float32)
    else:
        prediction = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=message):
        maps_of_the_face(truth, prediction)
