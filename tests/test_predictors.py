"""One interface over all systems: networks of tiny Configs with random weights, out of run folders; what is bundled.

A system's capabilities are what works; a photo without a face changes nothing; `reset` forgets.
"""
import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

import Network
from Dataset.face_model.model import load_face_model
from Dataset.geometry.pose import Pose
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.io.inputs import NamedImage, example_image
from Dataset.rendering.rasterise import faces, rasterise
from Dataset.representations.coefficients import POSE, decode_pose
from Dataset.representations.points import mean_face
from Dataset.representations.volume import LEVEL
from Evaluation.views.registry import VIEWS, make_viewer
from Network.commands.demo_faces import FaceWriter
from Network.commands.demo_options import SURFACES
from Network.inference.base import Predictor
from Network.inference.photos import NoFace, square_crop
from Network.inference.registry import PREDICTORS, from_run, predictor_class, predictor_of
from Network.inference.rendered import far_camera, render, rendered_volume
from Network.models import coarse, pix2pix, uvnet, vrn
from Network.models.registry import NETWORKS, get_network
from Network.training.checkpoints import RunFolder
from Network.training.loading import load_model
from tests.keypoint_models import write_stand_in
from tests.test_compact import TINY
from tests.test_streaming import TINY_THESIS

CONFIGS = {"compact": TINY, "convlstm": TINY_THESIS,
           "uvnet": uvnet.Config(image_size=32, levels=2, first_features=4),
           "pix2pix": pix2pix.Config(image_size=32, filters=(4, 6, 8, 8), dropout_levels=2,
                                     discriminator_filters=(4, 6, 8)),
           "vrn": vrn.Config(image_size=32, layers=16, features=8, stem=(4, 6), depth=2, head=(6,)),
           "coarse": coarse.Config(image_size=32, stem_filters=8, stem_pool=False, filters=(8, 16), blocks=(1, 1))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Name -> a run folder of that system, as training writes it."""
    found = {}
    for name, config in CONFIGS.items():
        keras.utils.set_random_seed(3)
        network, run = get_network(name), RunFolder(tmp_path_factory.mktemp(name) / "run")
        run.start({"network": name, "model": dataclasses.asdict(config), "order": "grid"})
        run.save_weights(network.build_training(config), "best_validation")
        found[name] = run.path
    write_stand_in(found["compact"])
    return found


@pytest.fixture(scope="module")
def predictors(runs):
    return {name: from_run(path) for name, path in runs.items()}


def images(count: int, size: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, size, 3)).astype(np.uint8) for _ in range(count)]


def test_every_system_has_one_predictor():
    assert set(PREDICTORS) == set(NETWORKS)
    for name in PREDICTORS:
        assert predictor_class(name).network == name and issubclass(predictor_class(name), Predictor)
    with pytest.raises(ValueError, match="network must be one of convlstm, .*, got 'resnet'"):
        predictor_class("resnet")
    with pytest.raises(ValueError, match="preset must be one of compact.*, got 'resnet'"):
        Network.from_preset("resnet")
    with pytest.raises(ValueError, match="nowhere: no such model file or run folder"):
        Network.from_run("nowhere")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_folder_gives_faces_or_no_face(name, predictors):
    """Random weights: a face with what the class says it holds, or NoFace; then nothing is kept."""
    predictor = predictors[name]
    assert type(predictor) is predictor_class(name) and predictor.size == 32
    predictor.reset()
    for image in images(3):
        before = predictor.face, predictor.count
        try:
            face = predictor.add(square_crop(image, 32))
        except NoFace:
            assert (predictor.face, predictor.count) == before
            continue
        assert predictor.face is face and predictor.count == before[1] + 1
        assert face.points.shape == (predictor.points, 3) and np.isfinite(face.points).all()
        assert (face.photo_points is not None) == predictor.has_photo_face
        assert (face.landmarks is not None) == predictor.has_landmarks
        assert (face.pose is not None) == predictor.has_pose
        assert (face.score is not None) == predictor.scores_crops
        assert face.crop.whole is None and not face.crop.others
    predictor.reset()
    assert predictor.face is None and predictor.count == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_subject_prefixes_and_predict_agree(name, predictors):
    predictor, some = predictors[name], images(2)
    prefixes, subject = predictor.prefixes(some), predictor.subject(some)
    assert prefixes.shape == (2, predictor.points, 3)
    np.testing.assert_allclose(subject, prefixes[-1], atol=1e-5)
    np.testing.assert_allclose(predictor.predict(predictor.inputs(some)[None])[0], subject, atol=1e-4)
    answer = predictor.photo(some[0])
    assert answer.points.shape[1] == 3 and (answer.seen or np.array_equal(answer.points, mean_face(predictor.points)))


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_system_does_not_have_says_so(name, predictors):
    predictor = predictors[name]
    for kind, call in (("uv", predictor.uv_map), ("depth", predictor.depth_map), ("volume", predictor.volume),
                       ("coefficients", predictor.passes)):
        predictor.reset()
        with pytest.raises(ValueError, match="no photo was added yet" if kind in predictor.dense else f"{name} has no"):
            call()
    for view in set(VIEWS) - set(predictor.views):
        with pytest.raises(ValueError, match=f"--view {view} is not of {name} "):
            make_viewer(view, predictor)
    for surface in set(SURFACES) - set(predictor.surfaces):
        with pytest.raises(ValueError, match=f"--surface {surface} is not of {name} "):
            FaceWriter(predictor, surface)
    if not predictor.has_photo_face:
        with pytest.raises(ValueError, match="--expression: .* makes neutral faces only"):
            FaceWriter(predictor, expression=True)
    if not predictor.iterated:
        with pytest.raises(ValueError, match=f"{name} is not iterated"):
            predictor.run_iterations(2)
        with pytest.raises(ValueError, match=f"^iterations is not for {name}; "):
            predictor_of(predictor.loaded, iterations=2)
    if not predictor.follows_video:
        with pytest.raises(ValueError, match=f"{name} has no keypoints in a frame"):
            predictor.follower()
    if predictor.maps is None:
        with pytest.raises(ValueError, match=f"{name} has no dense prediction"):
            predictor.answers(np.zeros((1, 32, 32, 3), np.float32))
    else:
        assert predictor.answers(np.zeros((2, 32, 32, 3), np.float32)).shape[:3] == (2, 32, 32)


def test_input_scaling_is_the_configs(runs):
    image = np.full((32, 32, 3), 51, np.uint8)
    image[0] = 102
    for name, scaling, low in (("uvnet", "unit", 0.2), ("uvnet", "minmax", 0.0), ("convlstm", None, 0.0)):
        loaded = load_model(runs[name])
        model = {**loaded.config["model"], **({"scaling": scaling} if scaling else {})}
        found = predictor_of(loaded._replace(config={**loaded.config, "model": model})).inputs([image])
        assert found.min() == pytest.approx(low, abs=1e-6) and found.dtype == np.float32
    with pytest.raises(ValueError, match="scaling must be one of unit, minmax, got 'log'"):
        predictor_of(loaded._replace(config={**loaded.config, "model": {"scaling": "log"}}))


def test_an_image_of_another_kind_is_refused(predictors):
    for image in (np.zeros((20, 20, 2), np.uint8), np.full((20, 20, 3), 2.0), np.zeros((9, 9, 3), np.int16)):
        with pytest.raises(ValueError, match="photo: an image must be .H, W, 3. or grey"):
            predictors["convlstm"].add(image)
    with pytest.raises(NoFace, match="grey: no face found"):
        predictors["convlstm"].add(NamedImage("grey", np.full((60, 60, 3), 90, np.uint8)))


@pytest.fixture(scope="module")
def posed():
    """A face with an expression, turned and off the middle: vertices (V, 3) mm, pose in crop sides, a crop of 64 px."""
    model, rng = load_face_model(), np.random.default_rng(5)
    vertices = model.shape(model.sample_identity(rng), model.sample_expression(rng, 0.6))
    pose = Pose(rotation_from_euler(25, 8, -6), 1 / 210, np.array([0.53, 0.47]))
    return vertices, pose, np.zeros((64, 64, 3), np.uint8)


def test_the_far_camera_sees_what_the_pose_says(posed):
    vertices, pose, _ = posed
    seen = far_camera(pose, 64).project(vertices @ pose.rotation.T)
    np.testing.assert_allclose(np.stack([seen.x, seen.y], -1), 64 * pose.project(vertices), atol=0.1)


def test_a_rendering_agrees_with_a_rasteriser(posed):
    """UV map, depth, PNCC and volume of one face: the same pixels, the same surface."""
    vertices, pose, image = posed
    model = load_face_model()
    found = render(vertices, pose, image)
    mask = found.uv.mask
    assert 0.2 < mask.mean() < 0.8 and np.array_equal(np.isfinite(found.depth.depth), mask)
    assert np.array_equal(np.isfinite(found.uv.uv[..., 0]), mask) and (found.pncc.any(-1) >= mask).all()
    turned = vertices @ pose.rotation.T
    points = np.stack([*(64 * pose.project(vertices)).T, turned[:, 2] * pose.scale * 64]).astype(np.float32)
    seen = rasterise(faces(points, model.triangles.T.astype(np.int32)), 64)
    nearest = np.full(64 * 64, np.nan)
    nearest[seen.pixel] = seen.depth / (pose.scale * 64)        # mm towards the camera
    off = found.depth.depth + nearest.reshape(64, 64)
    assert np.nanpercentile(np.abs(off[mask] - np.nanmedian(off[mask])), 95) < 1.0
    values = rendered_volume(vertices, pose, 64, 80)
    assert values.shape == (64, 64, 80) and values.dtype == bool
    columns = values.any(-1)
    assert (columns & mask).sum() > 0.93 * mask.sum()
    depth = found.depth.depth - np.nanmin(found.depth.depth)
    first = values.argmax(-1) / (64 * pose.scale)               # mm behind the volume's front
    both = columns & mask
    apart = (first - depth)[both]
    assert np.percentile(np.abs(apart - np.median(apart)), 90) < 6      # voxels are of 3 mm


def test_compact_answers_everything_of_the_example_photo():
    """Where its keypoints are there is face; the last pass is the pose; the volume fills the crop's middle."""
    predictor = Network.from_preset("compact")
    face = predictor.add(example_image())
    assert face.score > 1 and 0.05 < face.typicality < 2.5 and face.crop.box == (153, 43, 145, 145)
    np.testing.assert_allclose(face.keypoints[:2], [[0.231387, 0.133741], [0.246358, 0.110727]], atol=1e-4)
    assert np.abs(face.pose_numbers[:3]).max() < 15 and 0.4 < face.pose_numbers[3] < 1.0
    uv, depth, volume = predictor.uv_map(), predictor.depth_map(), predictor.volume()
    inner = np.clip((face.keypoints.reshape(16, 16, 2)[4:12, 4:12].reshape(-1, 2) * 128).astype(int), 0, 127)
    assert uv.mask[inner[:, 1], inner[:, 0]].mean() > 0.95
    rows, columns = np.mgrid[4:12, 4:12] * 127 / 15
    expected = np.stack([(columns + 0.5) / 128, 1 - (rows + 0.5) / 128], -1).reshape(-1, 2)
    assert np.nanmedian(np.linalg.norm(uv.uv[inner[:, 1], inner[:, 0]] - expected, axis=1)) < 0.02
    assert depth.depth.shape == (128, 128) and (volume.max(-1) > LEVEL)[uv.mask].mean() > 0.95
    nose = face.landmarks[30] * 128
    nearest = np.unravel_index(np.nanargmin(depth.depth), depth.depth.shape)
    assert np.hypot(nose[0] - nearest[1], nose[1] - nearest[0]) < 12
    np.testing.assert_allclose(decode_pose(predictor.passes()[-1][POSE], 1).rotation, face.pose.rotation, atol=1e-5)
    assert face.texture.rgb().shape == (16384, 3)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_no_image_is_refused_and_changes_nothing(predictors, name):
    predictor = predictors[name]
    predictor.reset()
    crop = np.random.default_rng(0).integers(0, 256, (predictor.size, predictor.size, 3)).astype(np.uint8)
    before = predictor.face, predictor.count
    for bad in (None, "x", np.zeros((0, 5, 3), np.uint8), crop.astype(np.float32), crop * np.nan, crop[None]):
        for call in (predictor.add, lambda one: predictor.subject([crop, one]), predictor.photo, predictor.predict):
            with pytest.raises(ValueError) as error:
                call(bad)
            assert not isinstance(error.value, NoFace) and (predictor.face, predictor.count) == before
    huge = np.broadcast_to(np.uint8(0), (60000, 60000, 3))
    for bad in (None, 5, np.nan, np.array(5), Path("x"), "x", b"x", memoryview(crop), crop, [], (), {}, {"a": crop},
                [huge]):
        for call in (predictor.subject, predictor.prefixes):
            with pytest.raises(ValueError, match="crop"):
                call(bad)
        assert (predictor.face, predictor.count) == before
    with pytest.raises(ValueError, match="a crop may have at most 64 megapixels, got 60000x60000"):
        predictor.photo(huge)
    for bad in (None, crop, [crop], "x"):
        with pytest.raises(ValueError, match="photo must be a NamedImage"):
            predictor.crops(bad)
    for box in (5, "1,2,3,4", (1, 2, 3), (1.5, 2, 3, 4), np.nan):
        with pytest.raises(ValueError, match="me: box must be four whole numbers"):
            predictor.crops(NamedImage("me", crop), box=box)
    assert (predictor.face, predictor.count) == before
    with pytest.raises(ValueError, match="crop must be"):
        predictor.add(square_crop(crop, predictor.size)._replace(image=crop[..., :2]))
