"""Shards with buffers -> batches for per-pixel networks: who is in them, what maps say after all that moves them."""
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from Datagenerator.augmentation.pair_jitter import ENLARGED
from Datagenerator.loading.epoch import Shard
from Datagenerator.loading.pipeline import make_pipeline
from Datagenerator.sequences.maps import (DepthConfig, MapConfig, MapSequence, everybodys_maps, make_map_sequences,
                                          without_face)
from Datagenerator.source import data_config, open_source
from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.depth import encode_depth
from Dataset.representations.uvmap import erode
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards

PLAIN = MapConfig(batch_size=4, batches=3, validation_subjects=2, image_size=32, empty=0.0)
DEPTH = DepthConfig(batch_size=3, batches=2, validation_subjects=2, image_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "subjects"
    make_shards(path, RenderOptions(subjects=6, images=2, size=32, seed=5, detect=0.0, yaw=40,
                                    buffers=("uv", "mask", "visible_mask", "depth")))
    return path


def sequences(folder, config=PLAIN):
    return make_map_sequences(open_shards(folder), config)


def _same(a, b):
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for key in a[1]:
        np.testing.assert_array_equal(a[1][key], b[1][key])


EXTRAS = ("depth", "landmarks", "pose")


@pytest.mark.parametrize("config", [PLAIN, DEPTH, dataclasses.replace(
    PLAIN, jitter=True, quarters=True, empty=0.3, faces_in_image=3), dataclasses.replace(
    PLAIN, jitter=True, quarters=True, empty=0.3, extras=EXTRAS)])
def test_shapes_ranges_and_what_belongs_together(folder, config):
    training, validation = sequences(folder, config)
    assert len(training) == config.batches
    for sequence in (training, validation):
        for index in range(len(sequence)):
            x, y = sequence.batch(1, index)
            shape, targets = sequence.shapes
            assert x.shape[1:] == shape[1:] and len(x) == config.batch_size and x.dtype == np.float32
            np.testing.assert_array_equal(x, np.rint(x * 255).astype(np.uint8) / np.float32(255))    # 8 bits by 255
            assert {k: (None, *v.shape[1:]) for k, v in y.items()} == targets
            assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in y.values())
            if config.target == "uv":
                assert (y["uv"][y["mask"][..., 0] == 0] == 0).all() and (y["uv"] >= 0).all() and (y["uv"] <= 1).all()
                assert set(np.unique(y["mask"])) <= {0, 1} and (y["visible_mask"] <= y["mask"]).all()
                for mask, eroded in zip(y["mask"], y["eroded"]):
                    np.testing.assert_array_equal(erode(mask[..., 0] > 0), eroded[..., 0] > 0)
            else:
                assert (np.abs(y["depth"]) <= 1).all() and (y["depth"].reshape(len(x), -1).max(1) == 1).all()


def test_a_batch_depends_on_seed_epoch_and_index_alone(folder):
    config = dataclasses.replace(PLAIN, faces_in_image=2, jitter=True, empty=0.3)
    training = sequences(folder, config)[0]
    _same(training.batch(1, 2), sequences(folder, config)[0].batch(1, 2))
    with ThreadPoolExecutor(3) as pool:         # as the pipeline calls it
        for (x, y), index in zip(pool.map(lambda i: training.batch(1, i), range(3)), range(3)):
            _same((x, y), training.batch(1, index))
    others = (training.batch(1, 1), training.batch(0, 2),
              sequences(folder, dataclasses.replace(config, seed=1))[0].batch(1, 2))
    assert all(np.abs(x - training.batch(1, 2)[0]).max() > 0.1 for x, _ in others)


def test_workers_parts_are_the_batch(folder):
    training = sequences(folder)[0]
    x, y = training.batch(0, 0)
    for index in range(2):
        part = training.batch(0, 0, Shard(index, 2))
        rows = slice(2 * index, 2 * index + 2)
        _same(part, (x[rows], {k: v[rows] for k, v in y.items()}))
    training.check_shard(Shard(0, 2, 2))
    with pytest.raises(ValueError, match="a batch of 4 images is too small for 3 workers x 2 replicas"):
        training.check_shard(Shard(0, 3, 2))


def test_nobody_stands_on_both_sides(folder):
    training, validation = sequences(folder)
    assert list(validation.subjects) == [0, 1] and list(training.subjects) == [2, 3, 4, 5]
    assert {p for i in range(3) for p in training.draw(0, i).subjects.ravel()} <= {2, 3, 4, 5}
    assert len(validation) == 1
    drawn = validation.draw(0, 0)
    assert [*zip(drawn.subjects[:, 0], drawn.images[:, 0])] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_held_out_images_are_as_they_were_rendered(folder):
    shards = open_shards(folder)
    x, y = sequences(folder)[1].batch(3, 0)
    image, uv, mask, visible_mask = (shards.gather(name, [1], [1])[0]
                                     for name in ("images", "uv", "mask", "visible_mask"))
    np.testing.assert_array_equal(x[3], image / np.float32(255))
    np.testing.assert_array_equal(y["uv"][3], np.where(mask[..., None], uv.astype(np.float32), 0))
    np.testing.assert_array_equal(y["mask"][3, ..., 0], mask)
    np.testing.assert_array_equal(y["visible_mask"][3, ..., 0], visible_mask)
    assert mask.sum() > 100


def test_exposure_reaches_the_network(folder):
    """A darker image is darker in the batch; min-max, which other networks take, cancels the exposure."""
    shards = Repainted(open_shards(folder), lambda image, *_: image // 2)
    dark, plain = (MapSequence(one, np.arange(6), PLAIN, False).batch(0, 0)[0] for one in (shards, shards.shards))
    np.testing.assert_allclose(dark, plain / 2, atol=0.51 / 255)
    config = dataclasses.replace(PLAIN, scaling="minmax")
    dark, plain = (MapSequence(one, np.arange(6), config, False).batch(0, 0)[0] for one in (shards, shards.shards))
    np.testing.assert_allclose(dark, plain, atol=0.01)
    assert dark.max() == plain.max() == 1


class Repainted:
    """Shards whose images are painted by `paint(image, shards, subject, image)`."""

    def __init__(self, shards, paint):
        self.shards, self.paint = shards, paint
        self.names, self.size, self.images, self.path = shards.names, shards.size, shards.images, shards.path

    def gather(self, name, subjects, images=None):
        found = self.shards.gather(name, subjects, images)
        if name != "images":
            return found
        return np.stack([self.paint(image, self.shards, subject, number)
                         for image, subject, number in zip(found, subjects, images)])


def paint_uv(image, shards, subject, number):
    """The face's pixels show their own u and v, as far as 1/8 to 7/8 of the grey levels go."""
    uv, mask = (shards.gather(name, [subject], [number])[0] for name in ("uv", "mask"))
    levels = np.concatenate([32 + 190 * uv.astype(float), np.full((*mask.shape, 1), 128.0)], -1)
    return np.where(mask[..., None], np.rint(levels), 0).astype(np.uint8)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(float)


@pytest.mark.parametrize("photos", [False, True])
def test_image_and_maps_agree_after_all_augmentation(folder, photos):
    """The image shows u and v: where the face is visible they rise with two of the channels as with the maps,
    whatever moved, hid, lit or reordered them."""
    config = dataclasses.replace(PLAIN, batch_size=12, jitter=True, quarters=True, photos=photos, occlusion=0.5)
    sequence = MapSequence(Repainted(open_shards(folder), paint_uv), np.arange(6), config, True)
    x, y = sequence.batch(config.fade_epochs, 0)
    agree = 0
    for image, uv, visible, mask in zip(x, y["uv"], y["visible_mask"][..., 0], y["eroded"][..., 0]):
        inner = (visible == 1) & (mask > 0)
        if inner.sum() < 60:
            continue
        match = [max(abs(np.corrcoef(ranks(image[inner][:, k]), ranks(uv[inner][:, i]))[0, 1]) for k in range(3))
                 for i in (0, 1)]
        agree += min(match) > 0.9
        assert photos or min(match) > 0.9, match
    assert agree >= 6


def test_image_and_depth_agree_when_mirrored(folder):
    """The image shows the depth; enlarged and cut, half of them mirrored, it is that of the target."""
    def paint(image, shards, subject, number):
        depth, seen, camera = (shards.gather(name, [subject], [number])[0]
                               for name in ("depth", "visible_mask", "camera"))
        return np.repeat(np.rint((encode_depth(depth, seen, float(camera[0])) + 1) * 127.5), 3, -1).astype(np.uint8)
    shards = Repainted(open_shards(folder), paint)
    config = dataclasses.replace(DEPTH, batch_size=12)
    sequence = MapSequence(shards, np.arange(6), config, True)
    drawn, (x, y) = sequence.draw(0, 0), sequence.batch(0, 0)
    mirrored = 0
    for row in range(12):
        shown, depth = 2 * x[row, ..., 0] - 1, y["depth"][row, ..., 0]
        inner = erode(depth > -1) > 0
        error = np.abs(1 - ENLARGED * (1 - shown) - depth)[inner]       # in sides of the crop, which shows less
        assert np.median(error) < 0.03 and np.median(np.abs(shown[depth == -1] + 1)) < 0.03, row
        before = paint(None, shards.shards, drawn.subjects[row, 0], drawn.images[row, 0])[..., 0] > 0
        overlaps = [(before[:, ::step] & (depth > -1)).sum() for step in (1, -1)]
        mirrored += overlaps[1] > overlaps[0]
    assert 0 < mirrored < 12


def test_noise_fades_to_nothing(folder):
    """At the end of the fade the same images differ by nothing but what the other steps drew."""
    config = dataclasses.replace(PLAIN, fade_epochs=4, occlusion=0.0)
    steps = config.steps()
    assert steps.noise[1] > 0 and steps.noise_end == (0, 0) and dataclasses.replace(config, photos=True).steps(
        ).noise_end == (0, 0)
    grey = Repainted(open_shards(folder), lambda image, *_: np.full_like(image, 128))
    sequence = MapSequence(grey, np.arange(6), config, True)
    sigma = [np.ptp(sequence.batch(epoch, 0)[0], axis=(1, 2)).max() for epoch in (0, 3, 4, 9)]
    assert sigma[0] > 1.5 * sigma[1] > 0 == sigma[2] == sigma[3]


def test_depth_is_the_visible_faces(folder):
    shards = open_shards(folder)
    y = sequences(folder, DEPTH)[1].batch(0, 0)[1]["depth"][1]
    depth, seen, camera = (shards.gather(name, [1], [0])[0] for name in ("depth", "visible_mask", "camera"))
    np.testing.assert_array_equal(y, encode_depth(depth, seen, float(camera[0])))
    assert (y[~seen] == -1).all() and (y[seen] > -1).all() and seen.any()
    half = sequences(folder, dataclasses.replace(DEPTH, image_size=16))[1].batch(0, 0)[1]["depth"][1]
    both = np.abs(half - y[1::2, 1::2])[(half > -1)]
    assert np.median(both) < 0.02 and half.shape == (16, 16, 1)     # in sides of the crop: the same values


def test_smaller_images(folder):
    """Images are averaged, maps keep one pixel of four, masks need all of them."""
    whole, small = (sequences(folder, dataclasses.replace(PLAIN, image_size=size))[1].batch(0, 0) for size in (32, 16))
    mask = whole[1]["mask"].reshape(4, 16, 2, 16, 2, 1).min((2, 4))
    np.testing.assert_array_equal(small[1]["mask"], mask)
    np.testing.assert_array_equal(small[1]["uv"], whole[1]["uv"][:, 1::2, 1::2] * mask)
    np.testing.assert_array_equal(small[1]["visible_mask"],
                                  whole[1]["visible_mask"].reshape(4, 16, 2, 16, 2, 1).min((2, 4)))
    shards = open_shards(folder)
    mean = shards.gather("images", [0], [0])[0].astype(float).reshape(16, 2, 16, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small[0][0], mean / 255, atol=0.51 / 255)
    with pytest.raises(ValueError, match="must be a multiple of image_size 24"):
        sequences(folder, dataclasses.replace(PLAIN, image_size=24))


def test_fraction_without_a_face(folder):
    x, y = sequences(folder, dataclasses.replace(PLAIN, empty=1.0, faces_in_image=2))[0].batch(0, 0)
    assert not any(value.any() for value in y.values()) and x.std() > 0.01
    x, y = sequences(folder, dataclasses.replace(DEPTH, empty=1.0))[0].batch(0, 0)
    assert (y["depth"] == -1).all()
    config = dataclasses.replace(PLAIN, batch_size=200, batches=1, empty=0.2)
    faces = sequences(folder, config)[0].batch(0, 0)[1]["mask"].any((1, 2, 3))
    assert 0.12 < 1 - faces.mean() < 0.28
    assert sequences(folder, dataclasses.replace(PLAIN, empty=1.0))[1].batch(0, 0)[1]["mask"].any((1, 2, 3)).all()


def test_what_stands_beside_a_face_holds_none_of_it():
    image, mask = np.full((40, 40, 3), 7, np.uint8), np.zeros((40, 40), bool)
    mask[12:30, 15:38] = True
    image[mask] = 255
    beside = [np.array_equal(without_face(image, mask, np.random.default_rng(s)), np.full((40, 40, 3), 7))
              for s in range(40)]
    assert 10 < sum(beside) < 30                # the others are clutter
    mask[:] = True
    assert not (without_face(image, mask, np.random.default_rng(1)) == 7).all()


def test_extras_change_nothing_else(folder):
    config = dataclasses.replace(PLAIN, jitter=True, quarters=True, empty=0.3)
    x, y = sequences(folder, config)[0].batch(1, 0)
    more, extras = sequences(folder, dataclasses.replace(config, extras=EXTRAS))[0].batch(1, 0)
    np.testing.assert_array_equal(more, x)
    assert list(extras) == ["uv", "mask", "visible_mask", "depth", "eroded", "landmarks", "pose"]  # maps in their order
    assert list(y) == ["uv", "mask", "visible_mask", "eroded"]
    for name in y:
        np.testing.assert_array_equal(extras[name], y[name])


def test_extras_of_images_as_rendered(folder):
    shards = open_shards(folder)
    y = sequences(folder, dataclasses.replace(PLAIN, extras=EXTRAS))[1].batch(0, 0)[1]
    depth, seen, camera, pose, landmarks = (shards.gather(name, [1], [0])[0] for name in (
        "depth", "visible_mask", "camera", "pose", "landmarks"))
    np.testing.assert_array_equal(y["depth"][1], encode_depth(depth, seen, float(camera[0])))
    np.testing.assert_allclose(y["landmarks"][1], landmarks / 32, atol=1e-6)
    np.testing.assert_allclose(y["pose"][1], rotation_from_euler(*pose[:3].astype(float))[:2].ravel(), atol=1e-6)


@pytest.mark.parametrize("config", [dataclasses.replace(PLAIN, augment=False),
                                    dataclasses.replace(PLAIN, augment=False, jitter=True, quarters=True)])
def test_landmarks_and_pose_turn_with_the_image(folder, config):
    """From the truth alone: the head's landmarks, turned by the pose and scaled, lie where the landmarks do, but for
    perspective and how the crop cuts; and they lie where uv says."""
    sequence = sequences(folder, dataclasses.replace(config, extras=EXTRAS, batch_size=16))[0]
    drawn, (_, y) = sequence.draw(2, 1), sequence.batch(2, 1)
    model, shards, turned = load_face_model(), open_shards(folder), []
    for i in range(16):
        subject, image = drawn.subjects[i, 0], drawn.images[i, 0]
        head = model.landmarks(model.shape(shards.gather("identity", [subject])[0],
                                           shards.gather("expression", [subject], [image])[0]))
        rows = y["pose"][i].reshape(2, 3).astype(float)
        np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-6)
        seen = (head - head.mean(0)) @ (rows * [[1], [-1]]).T                   # rows of an image run down
        found = y["landmarks"][i] - y["landmarks"][i].mean(0)
        scale = (seen * found).sum() / (seen ** 2).sum()
        assert scale > 0 and np.abs(scale * seen - found).mean() < 0.12 * found.std(), i
        turned.append(np.degrees(np.arctan2(rows[1, 0], rows[0, 0])))
        shown, u = y["mask"][i, ..., 0] > 0, y["uv"][i, ..., 0]
        nose = y["landmarks"][i, 30] * 32 - 0.5                                 # the tip: u = 1/2 or nearly so
        near = np.hypot(*(np.argwhere(shown)[:, ::-1] - nose).T) < 1.5
        if near.any():
            assert np.abs(u[shown][near] - 0.5).min() < 0.12
    assert (np.abs(turned) > 60).any() == config.quarters


def test_depth_grows_with_the_face(folder, monkeypatch):
    """A face enlarged by 1.2 is 1.2 times as deep, in sides of the image."""
    from Datagenerator.sequences import maps as map_dataset
    still = dataclasses.replace(PLAIN, augment=False, extras=("depth",))
    before = sequences(folder, still)[0].batch(0, 0)[1]["depth"][..., 0]
    monkeypatch.setattr(map_dataset, "_JITTER", {"scale": (1.2, 1.2)})
    after = sequences(folder, dataclasses.replace(still, jitter=True))[0].batch(0, 0)[1]["depth"][..., 0]
    for one, other in zip(before, after):
        inner = one[3:-3, 3:-3][one[3:-3, 3:-3] > -1]       # what stays in the image
        shown = other[other > -1]
        assert shown.max() == pytest.approx(1 - 1.2 * (1 - inner.max()), abs=0.03)
        assert np.median(shown) == pytest.approx(1 - 1.2 * (1 - np.median(inner)), abs=0.05)


def test_extras_without_a_face(folder):
    y = sequences(folder, dataclasses.replace(PLAIN, empty=1.0, extras=EXTRAS))[0].batch(0, 0)[1]
    assert (y["depth"] == -1).all() and not y["landmarks"].any() and not y["pose"].any() and not y["mask"].any()


def test_everybodys_maps(folder):
    shards = open_shards(folder)
    batches = list(everybodys_maps(shards, 32, 2, batch=5))
    assert [len(b.images) for b in batches] == [5, 5, 2]
    masks, landmarks = (np.concatenate(parts) for parts in ([b.maps["mask"] for b in batches],
                                                            [b.landmarks for b in batches]))
    wanted = [(p, k) for k in range(2) for p in range(6)]
    for row, (subject, image) in enumerate(wanted):
        np.testing.assert_array_equal(masks[row, ..., 0], shards.gather("mask", [subject], [image])[0])
        np.testing.assert_allclose(landmarks[row], shards.gather("landmarks", [subject], [image])[0] / 32, atol=1e-6)
    assert list(batches[0].maps) == ["uv", "mask", "visible_mask", "eroded"]
    with pytest.raises(ValueError, match="--images must be 1 to 2, as many as each subject has images, got 3"):
        next(everybodys_maps(shards, 32, 3))


def test_through_the_pipeline(folder):
    training = sequences(folder)[0]
    batches = list(make_pipeline(training, 0, 1, workers=2))
    assert len(batches) == 2
    for number, (x, y) in enumerate(batches):
        _same((np.asarray(x), {k: np.asarray(v) for k, v in y.items()}), training.batch(0, number + 1))


def test_source(folder):
    assert data_config("maps", folder, ()) is MapConfig
    assert data_config("depth", folder, ()) is DepthConfig
    for config in (PLAIN, DEPTH):
        source = open_source(folder, "train-test", config)
        assert source.about["subjects"] == {"validation": "numbers below 2"} and source.about["shards"]["seed"] == 5
        assert source.model == {"crop_margin": 1.15} and source.template.shape == (128 * 128, 3)
        assert source.training.training and not source.validation.training
    with pytest.raises(ValueError, match="live: .* on the fly give .*, this preset trains on points"):
        data_config("points", "live", ())


def test_shards_without_the_buffers(tmp_path):
    folder, buffers = tmp_path / "subjects", ("mask", "depth")
    make_shards(folder, RenderOptions(subjects=3, images=1, size=16, detect=0.0, buffers=buffers))
    shards, config = open_shards(folder), dataclasses.replace(PLAIN, validation_subjects=1, image_size=16)
    with pytest.raises(ValueError, match="target uv needs the buffers uv, visible_mask .python -m Dataset.shards --"):
        make_map_sequences(shards, config)
    with pytest.raises(ValueError, match=r"the buffers uv, visible_mask .*--buffers uv,mask,visible_mask,depth\)"):
        make_map_sequences(shards, dataclasses.replace(config, extras=("depth",)))
    with pytest.raises(ValueError, match="target depth needs the buffers visible_mask"):
        make_map_sequences(shards, dataclasses.replace(DEPTH, validation_subjects=1, image_size=16))


@pytest.mark.parametrize("change, message", [
    ({"scaling": "z"}, "scaling must be one of unit, minmax, got 'z'"), ({"occlusion": 2}, "occlusion must be within"),
    ({"target": "normals"}, "target must be one of uv, depth, got 'normals'"),
    ({"batch_size": 0}, "batch_size must be within 1 to 4096, got 0"), ({"empty": 1.5}, "empty must be within 0 to 1"),
    ({"faces_in_image": 9}, "faces_in_image must be within 1 to 4"), ({"seed": -1}, "seed must be at least 0"),
    ({"target": "depth", "quarters": True}, "quarters and faces_in_image are for target uv"),
    ({"extras": ("hat",)}, "extras must be some of depth, landmarks, pose, once each, for target uv, got hat for uv"),
    ({"extras": ("pose", "pose")}, "once each"), ({"target": "depth", "extras": ("pose",)}, "got pose for depth"),
    ({"extras": ("depth",), "faces_in_image": 2}, "extras depth .* faces_in_image must be 1")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)


def test_too_few_subjects(folder):
    with pytest.raises(ValueError, match="0 subjects to train on and 6 for validation; validation_subjects is 9"):
        sequences(folder, dataclasses.replace(PLAIN, validation_subjects=9))
