"""Network/uvnet.py and its loss: the listing's sizes, what a pixel sees, maps read and refused, a slow twin."""
import dataclasses

import keras
import numpy as np
import pytest

from Network import get_network, uvnet
from Network.flags import from_dict
from Network.losses import LEAST_LOG_VARIANCE, LOSSES, maps_of_the_face
from Network.presets import resolve
from Network.settings import Settings
from Network.step import GradientStep, make_optimizer

COMPACT_PARAMETERS = 2_783_740
POOLED = uvnet.Config(levels=5, filters=(3,), stem=32, features=(32, 64, 96, 160, 192), convolutions=(0, 2),
                      up_features=(32, 64, 96, 160, 192), up_convolutions=(1, 2), last_convolutions=0,
                      normalisation="batch", upsampling="nearest", skips="add", coarse=(3,), confidence=True)
TINY = uvnet.Config(image_size=16, levels=2, first_features=4)
SMALL = dataclasses.replace(uvnet.COMPACT, image_size=16, levels=2, stem=6, features=(6, 8), up_features=(6, 8),
                            coarse=(1,), batch_norm_momentum=0.8)


@pytest.mark.parametrize("levels, parameters, up", [
    (6, 43_749_632, (40, 70, 122, 215, 375, 656)), (7, 58_729_775, (40, 70, 122, 215, 375, 656, 1149))])
def test_size_is_the_papers(levels, parameters, up):
    config = uvnet.Config(levels=levels)
    model = uvnet.build(config)
    assert model.count_params() == parameters
    assert model.get_layer("pool_5").output.shape == (None, 2, 2, 525)
    assert config.down() == (32, 56, 98, 172, 300, 525, 919)[:levels] and config.up() == up
    assert model.output_shape == (None, 128, 128, 4) and model.get_layer("skip_0").output.shape[-1] == 40 + 3
    assert [model.get_layer(f"skip_{i}").output.shape[1:] for i in (5, 4, 1)] == [
        (4, 4, 656 + 300), (8, 8, 375 + 172), (64, 64, 70 + 32)]
    assert model.get_layer("up_0").activation is keras.activations.relu
    assert model.get_layer("maps").activation is keras.activations.linear


def test_the_presets():
    assert get_network("uvnet") is uvnet and uvnet.PRESETS["uvnet"] == uvnet.Config()
    model = uvnet.build(uvnet.COMPACT)
    assert model.count_params() <= 3_000_000 and model.output_shape == (None, 128, 128, 6)
    assert all(size % 16 == 0 for size in uvnet.COMPACT.down() + uvnet.COMPACT.up())    # the fused normalisation's
    paper, compact = resolve("uvnet", {}), resolve("uvnet-compact", {})
    assert paper["train"]["learning_rate"] == 1e-4 and paper["train"]["schedule"] == "plateau"
    assert paper["train"]["plateau_factor"] == 0.1 and paper["train"]["plateau_beta1"] == 0.99
    assert paper["data"]["batch_size"] == 40 and not paper["model"]["confidence"] and paper["model"]["levels"] == 6
    assert compact["model"]["confidence"] and compact["model"]["normalisation"] == "batch"
    assert compact["train"]["choose_by"] == "uv" and LOSSES["uvnet"] is maps_of_the_face


def test_any_size_that_the_levels_divide():
    model = uvnet.build(dataclasses.replace(TINY, image_size=24))
    model.set_weights(uvnet.build(TINY).get_weights())
    assert model(np.zeros((2, 24, 24, 3), np.float32)).shape == (2, 24, 24, 4)


@pytest.mark.parametrize("change, message", [
    ({"encoder": "residual"}, "stem must be at least 1 for a residual encoder"),
    ({"blocks": ()}, "blocks must have at least"),
    ({"image_size": 100}, "image_size must be a multiple of 64, got 100"), ({"image_size": 64, "stem": 16}, "of 128"),
    ({"levels": 0}, "levels must be positive"),
    ({"skips": "none"}, "skips must be one of concatenate, add, got 'none'"),
    ({"normalisation": "layer"}, "normalisation must be one of"), ({"upsampling": ""}, "upsampling must be one of"),
    ({"coarse": (6,)}, r"coarse must name levels below 6, got \(6,\)"),
    ({"features": (8, 8)}, "features must have one value for each of the 6 levels"),
    ({"aside": 0}, "aside must be positive"), ({"filters": ()}, "filters must have at least one value"),
    ({"filters": (5, 0)}, "filters must be positive")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        uvnet.Config(**change)


@pytest.mark.parametrize("config", [uvnet.COMPACT, POOLED, dataclasses.replace(uvnet.UVNET, first_features=12)])
def test_every_pixel_sees_the_whole_image(config):
    keras.utils.set_random_seed(0)
    model = uvnet.build(config)
    images = np.random.default_rng(0).random((3, 128, 128, 3), np.float32)
    images[1:] = images[0]
    images[1, :4, :4], images[2, -4:, -4:] = 0, 0
    rng = np.random.default_rng(1)
    for kernel in (weight for weight in model.weights if weight.name == "kernel" and not np.any(weight)):
        kernel.assign(rng.normal(0, 0.1, kernel.shape))     # as after training: maps of 0 see nothing
    a, b, c = np.asarray(model(images))
    assert (a[-2:, -2:] != b[-2:, -2:]).any(-1).all() and (a[:2, :2] != c[:2, :2]).any(-1).all()


def test_a_residual_encoder_is_that_of_compact():
    from Network import compact
    from Network.loading import _paths
    keras.utils.set_random_seed(2)
    ours, theirs = uvnet.build(uvnet.COMPACT), compact.build(compact.PRESETS["compact"])
    known = _paths(theirs)
    for name, layer in _paths(ours).items():
        if name.startswith(("down_", "block_")) and not name.startswith(("down_4", "block_4")):
            layer.set_weights(known[name].get_weights())
    images = np.random.default_rng(2).random((2, 128, 128, 3), np.float32)
    found, expected = (np.asarray(keras.Model(model.input, model.get_layer("block_3_1").output)(x))
                       for model, x in ((ours, images), (theirs, images[None])))
    assert found.shape == (2, 8, 8, 160)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_pooled_encoder_with_a_stem():
    model = uvnet.build(POOLED)
    assert model.count_params() == 2_703_420 and model.get_layer("pool_4").output.shape == (None, 2, 2, 192)


def test_after_a_stem_a_pixel_becomes_four():
    model = uvnet.build(SMALL)
    for weight in model.get_layer("coarse_1").trainable_weights:
        weight.assign(np.zeros(weight.shape))
    head = model.get_layer("maps")
    head.set_weights([np.zeros(head.kernel.shape), np.arange(16)])
    maps = np.asarray(model(np.zeros((1, 16, 16, 3), np.float32)))[0, ..., :4]
    np.testing.assert_array_equal(maps[:2, :2].reshape(4, 4), np.arange(16).reshape(4, 4))  # row, column, channel
    np.testing.assert_array_equal(maps, np.tile(maps[:2, :2], (8, 8, 1)))


def test_a_coarse_map_is_added():
    model = uvnet.build(SMALL)
    coarse, head = model.get_layer("coarse_1"), model.get_layer("maps")
    coarse.set_weights([np.zeros(coarse.kernel.shape), np.array([1, 2, 3, 4])])
    images = np.random.default_rng(7).random((1, 16, 16, 3), np.float32)
    before = np.asarray(model(images))
    coarse.set_weights([np.zeros(coarse.kernel.shape), np.array([11, 2, 3, 4])])
    np.testing.assert_allclose(model(images) - before, np.broadcast_to([10, 0, 0, 0, 0, 0], (1, 16, 16, 6)), atol=1e-5)
    head.set_weights([np.zeros(w.shape) for w in head.get_weights()])
    coarse.set_weights([np.random.default_rng(0).normal(size=coarse.kernel.shape), np.zeros(4)])
    maps = np.asarray(model(images))[0, ..., :4]
    grid = keras.Model(model.input, coarse.output)(images)[0]           # 4x4 cells of 4 pixels
    rows = 0.0625 * grid[0] + 0.875 * grid[1] + 0.0625 * grid[2]        # an eighth to either side of a cell's centre
    np.testing.assert_allclose((maps[5:7, 7:9].mean((0, 1))), 0.5 * (rows[1] + rows[2]), atol=1e-5)


def test_confidence_adds_channels_only():
    plain, sure = uvnet.build(TINY), uvnet.build(dataclasses.replace(TINY, confidence=True))
    for layer in plain.layers:
        sure.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(sure(images)[..., :4], plain(images))
    x = np.array([-1e4, LEAST_LOG_VARIANCE, 0, 50], np.float32)
    expected = np.log(np.exp(x.astype(float)) + np.exp(LEAST_LOG_VARIANCE))
    np.testing.assert_allclose(uvnet.floored_log_variance(x), expected, atol=1e-5)


def test_output_is_float32_in_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = uvnet.build(SMALL)
        assert model(np.zeros((1, 16, 16, 3), np.float32)).dtype == "float32"
        assert model.get_layer("up_0_0").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


def sample(rng, size: int, batch: int = 2) -> dict[str, np.ndarray]:
    """A truth as MapSequence gives it: a disc, u and v across it, its upper half hidden."""
    x, y = np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) / size] * 2)
    mask = (np.hypot(x - 0.5, y - 0.5) < rng.uniform(0.3, 0.45, (batch, 1, 1))).astype(np.float32)[..., None]
    eroded = mask * np.roll(mask, 1, 1) * np.roll(mask, -1, 1) * np.roll(mask, 1, 2) * np.roll(mask, -1, 2)
    return {"uv": (np.stack([x, 1 - y], -1) * mask).astype(np.float32), "mask": mask, "eroded": eroded,
            "occluded": mask * (y > 0.5)[..., None].astype(np.float32)}


def slow_loss(truth, prediction) -> list[dict[str, float]]:
    """Listing A.2, pixel by pixel."""
    found = []
    for i, p in enumerate(prediction.astype(float)):
        parts = dict.fromkeys(["uv", "mask", "occluded", "gradient"] + ["doubt"] * (p.shape[-1] > 5)
                              + ["depth"] * (p.shape[-1] % 2), 0.0)
        uv, mask, occluded, eroded = (truth[k][i].astype(float) for k in ("uv", "mask", "occluded", "eroded"))
        for r in range(len(p)):
            for c in range(len(p)):
                parts["mask"] += abs(p[r, c, 2] - mask[r, c, 0])
                parts["occluded"] += abs(p[r, c, 3] - occluded[r, c, 0])
                for k in range(2):
                    parts["uv"] += abs(p[r, c, k] * mask[r, c, 0] - uv[r, c, k])
                    for r2, c2 in ((r + 1, c), (r, c + 1)):
                        if r2 < len(p) and c2 < len(p):
                            result, target = ((a[r2, c2, k] - a[r, c, k]) * eroded[r, c, 0] for a in (p, uv))
                            parts["gradient"] += abs(result - target)
                    if p.shape[-1] > 5:
                        s = p[r, c, k - 2]
                        z2 = (p[r, c, k] - uv[r, c, k]) ** 2 / np.exp(s)
                        parts["doubt"] += 0.005 * mask[r, c, 0] * (s + 14 + 5 * np.log(1 + z2 / 4))
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
                                                              for k in ("mask", "occluded", "eroded")}}
    prediction = np.full((1, 4, 4, 4), 1.0, np.float32)
    prediction[0, 1, 1, 0] = 3.5
    parts = {name: float(value[0]) for name, value in maps_of_the_face(truth, prediction).items()}
    assert parts == {"uv": 31 * 0.5 + 3.0, "mask": 0.0, "occluded": 0.0, "gradient": 4 * 2.5}
    empty = {name: np.zeros_like(value) for name, value in truth.items()}
    parts = {name: float(value[0]) for name, value in maps_of_the_face(empty, prediction).items()}
    assert parts == {"uv": 0.0, "mask": 16.0, "occluded": 16.0, "gradient": 0.0}        # nothing but the masks


ASIDE = dataclasses.replace(SMALL, depth=True, landmarks=True, pose=True, aside=8)


def test_landmarks_and_pose_by_hand():
    """Pinned: ten times 136 differences of 0.25, twenty times 6 of 0.5; nothing of a picture without a face."""
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


def test_the_outlooks_outputs():
    model = uvnet.build_training(ASIDE)
    images = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    output = model(images)
    assert {name: tuple(value.shape) for name, value in output.items()} == {
        "maps": (2, 16, 16, 7), "landmarks": (2, 68, 2), "pose": (2, 6)}
    only = uvnet.inference(model)
    np.testing.assert_array_equal(only(images), output["maps"])
    built = uvnet.build(ASIDE)          # as a packed model is read
    built.set_weights(only.get_weights())
    np.testing.assert_array_equal(built(images), output["maps"])
    assert only.count_params() < model.count_params()
    assert uvnet.data_settings(ASIDE) == {"extras": ("depth", "landmarks", "pose")}
    assert uvnet.data_settings(uvnet.COMPACT) == {}


def test_without_them_the_network_is_what_it_was():
    for config in (TINY, SMALL, uvnet.COMPACT):
        model = uvnet.build_training(config)
        assert uvnet.inference(model) is model and not isinstance(model.output, dict)
    assert uvnet.build(uvnet.COMPACT).count_params() == COMPACT_PARAMETERS
    old = {name: value for name, value in dataclasses.asdict(uvnet.COMPACT).items()
           if name not in ("depth", "landmarks", "pose", "aside")}
    assert from_dict(uvnet.Config, old) == uvnet.COMPACT
    old = {name: value for name, value in dataclasses.asdict(POOLED).items() if name not in ("encoder", "blocks")}
    assert from_dict(uvnet.Config, old) == POOLED               # a config.json from before


def test_far_errors_do_not_drive_the_doubt():
    """A pixel that is sure and wrong raises its variance by no more than 4 times what a right one lowers it."""
    tf = pytest.importorskip("tensorflow")
    truth = sample(np.random.default_rng(3), 8, 1)
    doubt = tf.Variable(np.full((1, 8, 8, 2), -13.9, np.float32))
    with tf.GradientTape() as tape:
        loss = maps_of_the_face(truth, tf.concat([truth["uv"] + 0.5, truth["mask"], truth["mask"], doubt], -1))
        total = tf.reduce_sum(loss["doubt"])
    pull = np.asarray(tf.convert_to_tensor(tape.gradient(total, doubt)))[truth["mask"][..., 0] > 0.5] / 0.005
    assert -4 <= pull.min() and pull.max() < -3.99


@pytest.mark.parametrize("normalisation, zero", [("batch", True), ("none", False)])
def test_maps_begin_with_zero_behind_batch_normalisation(normalisation, zero):
    model = uvnet.build(dataclasses.replace(uvnet.COMPACT, normalisation=normalisation))
    for name in ("maps", "coarse_3", "doubt"):
        assert np.any(model.get_layer(name).get_weights()[0]) != zero, name


def test_doubt_learns_the_error_and_leaves_uv_alone():
    rng = np.random.default_rng(3)
    truth = sample(rng, 8, 1)
    tensors = [keras.ops.convert_to_tensor(v) for v in (truth["uv"], np.full((1, 8, 8, 2), -4, np.float32))]
    tf = pytest.importorskip("tensorflow")
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        prediction = tf.concat([tensors[0] + 0.1, truth["mask"], truth["mask"], tensors[1]], -1)
        doubt = tf.reduce_sum(maps_of_the_face(truth, prediction)["doubt"])
    uv, log_variance = tape.gradient(doubt, tensors)
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


@pytest.mark.parametrize("config", [dataclasses.replace(TINY, first_features=8), SMALL,
                                    dataclasses.replace(ASIDE, aside=32)])
def test_learns(config):
    """A picture of its own coordinates: the error of u and v falls to a fraction; where the disc lies is learned."""
    keras.utils.set_random_seed(4)
    truth = sample(np.random.default_rng(4), 16, 8)
    centre = truth["uv"].sum((1, 2)) / truth["mask"].sum((1, 2))
    radius = np.sqrt(truth["mask"].sum((1, 2)) / np.pi) / 16
    truth |= {"landmarks": np.repeat(centre[:, None], 68, 1), "pose": np.repeat(radius, 6, 1).astype(np.float32),
              "depth": np.where(truth["mask"] > 0, truth["uv"][..., :1], -1)} if config.pose else {}
    images = np.concatenate([truth["uv"], truth["mask"]], -1)
    optimizer = make_optimizer(Settings())
    optimizer.learning_rate = 0.01
    step = GradientStep(uvnet.build_training(config), optimizer, maps_of_the_face)
    before = step.evaluate(images, truth)
    for _ in range(60):
        step.train([(images, truth)])
    after = step.evaluate(images, truth)
    assert after["uv"].mean() < 0.25 * before["uv"].mean()
    for name in ("landmarks", "pose", "depth") if config.pose else ():
        assert after[name].mean() < 0.3 * before[name].mean(), name


def test_the_papers_network_trains_a_step_and_reloads(tmp_path):
    model = uvnet.build(uvnet.UVNET)
    before = model.get_layer("up_5").get_weights()[0]
    truth = sample(np.random.default_rng(5), 128, 1)
    images = np.random.default_rng(5).random((1, 128, 128, 3), np.float32)
    step = GradientStep(model, make_optimizer(Settings()), maps_of_the_face)
    assert np.isfinite(step.train([(images, truth)]))
    assert (model.get_layer("up_5").get_weights()[0] != before).any()
    model.save_weights(tmp_path / "uvnet.weights.h5")
    again = uvnet.build(uvnet.UVNET)
    again.load_weights(tmp_path / "uvnet.weights.h5")
    np.testing.assert_array_equal(again(images), model(images))


def test_a_saved_model_needs_no_code_of_its_own(tmp_path):
    model = uvnet.build(SMALL)
    model.save(tmp_path / "m.keras")
    images = np.random.default_rng(6).random((1, 16, 16, 3), np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(images), model(images))


def test_maps_are_read():
    output = np.zeros((4, 4, 6), np.float32)
    output[1:3, 1:3] = [0.25, 1.5, 0.9, 0.4, -9, -8]
    output[2, 2, 3], output[1, 1, 0], output[0, 0, 2] = 0.7, np.nan, 0.5
    maps = uvnet.read_maps(output)
    assert np.argwhere(maps.mask).tolist() == [[1, 2], [2, 1], [2, 2]]
    assert np.argwhere(maps.occluded).tolist() == [[2, 2]]
    np.testing.assert_array_equal(maps.uv[2, 2], [0.25, 1.0])
    np.testing.assert_array_equal(maps.log_variance[2, 1], [-9, -8])
    assert np.isnan(maps.uv[~maps.mask]).all() and np.isnan(maps.log_variance[~maps.mask]).all()
    seven = np.insert(output, 4, 1.2, axis=-1)
    seven[2, 1, 4] = 0.3
    deep = uvnet.read_maps(seven)
    for a, b in zip(maps, deep[:4]):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(deep.depth[[2, 1], [1, 2]], [0.3, 1.0])
    assert maps.depth is None and np.isnan(deep.depth[~deep.mask]).all()
    np.testing.assert_array_equal(uvnet.read_maps(seven[..., :5]).depth, deep.depth)
    nothing = uvnet.read_maps(np.zeros((4, 4, 4), np.float32))
    assert not nothing.mask.any() and nothing.log_variance is None
    with pytest.raises(ValueError, match=r"maps must have shape \(S, S, 4\) or"):
        uvnet.read_maps(np.zeros((1, 4, 4, 4), np.float32))
