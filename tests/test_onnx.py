"""model.onnx beside the weights of bundled networks: what Keras gives, tied to its files, run without Keras."""
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import demo
from Dataset.face_model.model import load_face_model
from Dataset.io.images import crop_resize
from Dataset.io.inputs import example_image
from Dataset.io.mesh_io import read_mesh
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext
from Network import from_preset, from_run, mobile3model
from Network.engine.exported import open_exported
from Network.engine.loaded import ONNX, WEIGHTS, Loaded, bundled_models, has_onnx, load_onnx
from Network.engine.run import run_of
from Network.export.export import PACKAGES
from Network.export.onnx_model import model_onnx, put_kernels, take_kernels
from Network.inference.registry import load, predictor_of
from Network.models import coarse, pix2pix, uvnet, vrn
from Network.training.named_weights import named_weights
from tests.forkserver import ROOT
from tests.test_pix2pix import TINY as PIX2PIX
from tests.test_uvnet import UNET
from tests.test_vrn import TINY as VRN
from tests.tiny_runs import COARSE, CONVLSTM

BUNDLED = bundled_models()
#: what a face from photos needs none of
HEAVY = ("tensorflow", "keras", "jax", "open3d", "pymeshlab", "matplotlib", "h5py", "trimesh")
TINY = {"uvnet": (uvnet, UNET), "pix2pix": (pix2pix, PIX2PIX), "vrn": (vrn, VRN), "coarse": (coarse, COARSE),
        "convlstm": (mobile3model, CONVLSTM)}


@pytest.fixture(scope="module")
def images():
    """(4, 128, 128, 3) uint8 of a rendered subject."""
    options = RenderOptions(subjects=1, images=4, seed=77, detect=0.0)
    return render_subject(0, options, RenderContext(load_face_model(), threads=1))["images"]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_network_has_one_that_gives_what_keras_gives(name, images):
    folder = BUNDLED[name]
    assert has_onnx(folder) and (folder / WEIGHTS).stat().st_size + (folder / ONNX).stat().st_size <= 16e6
    by_onnx, by_keras = from_preset(name), from_run(folder, engine="keras")
    assert by_onnx.loaded.model is None and by_keras.loaded.exported is None
    assert by_onnx.parameters == by_keras.parameters >= by_keras.loaded.model.count_params()
    assert name == "vrn-small" or by_keras.parameters == by_keras.loaded.model.count_params()
    for one in ("size", "points", "margin", "ordered", "images"):
        assert getattr(by_onnx, one) == getattr(by_keras, one)
    side, channels = by_keras.size, by_onnx.loaded.exported.metadata.channels
    images = np.stack([crop_resize(image, (0, 0, 128, 128), side, "area") for image in images])
    if not by_onnx.loaded.exported.metadata.states:
        inputs = by_keras.inputs(images) if channels == 3 else np.random.default_rng(0).random(
            (2, side, side, channels), np.float32)       # of coarse the estimate's PNCC and normals, too
        found, wanted = run_of(by_onnx.loaded)(inputs), run_of(by_keras.loaded)(inputs)
        if not isinstance(wanted, dict):
            found, wanted = {"": found}, {"": wanted}
        assert set(found) == set(wanted)
        for output in wanted:
            assert found[output].shape == wanted[output].shape and np.ptp(wanted[output]) > 0.1
            np.testing.assert_allclose(found[output], wanted[output], atol=1e-4 * max(1, np.abs(wanted[output]).max()),
                                       err_msg=output)
    moved = by_onnx.subject(list(images)) - by_keras.subject(list(images))
    assert np.median(np.abs(moved)) < 1e-4, np.median(np.abs(moved))
    if name == "compact":
        np.testing.assert_allclose(moved, 0, atol=1e-4)


@pytest.fixture
def copy(tmp_path):
    """A copy of the default network's folder."""
    return shutil.copytree(next(iter(BUNDLED.values())), tmp_path / "copy")


def test_it_is_tied_to_its_config_and_its_weights(copy):
    assert load_onnx(copy).image_size == 128 and load(copy).exported is not None
    config = copy / "config.json"
    before = config.read_text()
    config.write_text(before.replace('"crop_margin": 1.15', '"crop_margin": 1.3'))
    with pytest.raises(ValueError, match=r"model.onnx: belongs to another config.json than the one beside it$"):
        load(copy)
    config.write_text(before)
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    with pytest.raises(ValueError, match=r"model.onnx: was made of other weights than weights.npz beside it; run"):
        load(copy)
    (copy / ONNX).write_bytes(b"none")
    with pytest.raises(ValueError, match=r"model.onnx: cannot be opened: "):
        load(copy)
    (copy / ONNX).unlink()
    assert not has_onnx(copy)
    with pytest.raises(ValueError, match="copy: holds no model.onnx, which --engine onnxruntime needs"):
        load(copy, engine="onnxruntime")
    with pytest.raises(ValueError, match="^engine must be one of onnxruntime, keras, got 'tflite'$"):
        load(copy, engine="tflite")
    with pytest.raises(ValueError, match="^nowhere: no such model file or run folder; bundled are compact"):
        load("nowhere")


@pytest.mark.parametrize("words, code", [(["--example", "-o"], 0), (["nowhere.jpg", "-o"], 2)])
def test_no_heavy_package_on_the_way_to_a_face(words, code, tmp_path):
    """In a fresh process: the photo, the mesh, the preview."""
    script = ("import sys, demo\ncode = demo.main(sys.argv[1:])\n"
              f"print([name for name in {HEAVY} if name in sys.modules])\nsys.exit(code)")
    done = subprocess.run([sys.executable, "-c", script, *words, tmp_path / "demo.ply"], cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == code, done.stderr[-1000:]
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ("" if code == 0 else "demo.py: nowhere.jpg: no such file\n")
    assert (tmp_path / "demo.ply").exists() == (code == 0)


@pytest.mark.parametrize("script", ["demo", "evaluate", "train"])
def test_help_waits_for_nothing_heavy(script):
    code = (f"import sys, {script}\ntry:\n    {script}.main(['--help'])\nexcept SystemExit:\n    pass\n"
            f"print([name for name in {HEAVY} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines()[-1] == "[]"


def test_either_engine_gives_the_same_face(tmp_path):
    faces = []
    for engine in ("onnxruntime", "keras"):
        assert demo.main(["--example", "--engine", engine, "-o", str(tmp_path / f"{engine}.ply")]) == 0
        faces.append(read_mesh(tmp_path / f"{engine}.ply").vertices)
    assert np.abs(faces[0] - faces[1]).max() < 0.02          # mm


def test_the_same_photo_gives_the_same_bytes():
    """Whatever was asked between; `docs/security.md` promises it of the page's files."""
    predictor, image = from_preset("compact"), example_image().image

    def face() -> bytes:
        predictor.reset()
        predictor.add(image)
        return np.asarray(predictor.face.points).tobytes()
    first = face()
    for _ in range(20):
        predictor.reset()
        predictor.add(np.ascontiguousarray(image[:, ::-1]))
        assert face() == first


def test_a_photo_is_added_as_one_of_its_subject():
    """As the API has it: one more photo, the state, a new subject."""
    predictor, photo = from_preset(), example_image().image
    first = predictor.add(photo)
    second = predictor.add(photo)
    assert predictor.count == 2 and np.abs(second.points - first.points).max() > 0
    predictor.reset()
    np.testing.assert_array_equal(predictor.add(photo).points, first.points)


def loaded_of(name, module, config) -> Loaded:
    """A tiny network with drawn weights that float16 holds."""
    keras.utils.set_random_seed(3)
    model, rng = module.build(config), np.random.default_rng(3)
    for variable in named_weights(model).values():
        drawn = rng.uniform(0.5, 1.5, variable.shape) if "variance" in variable.path or "gamma" in variable.path \
            else rng.normal(0, 0.8 if name == "convlstm" else 0.1, variable.shape)
        variable.assign(drawn.astype(np.float16))
    written = {"network": name, "model": json.loads(json.dumps(dataclasses.asdict(config))), "order": "grid"}
    points = getattr(config, "points", 128 ** 2)
    return Loaded(model, written, ROOT / name, points, config.image_size, None, "grid")


@pytest.mark.parametrize("name", TINY)
def test_any_network_as_a_file(name, tmp_path):
    """What Keras gives, by both engines; the channels and outputs are in the metadata."""
    for package in PACKAGES["onnx"]:
        pytest.importorskip(package, reason=f"{package} is not installed; pip install -e '.[export]'")
    loaded = loaded_of(name, *TINY[name])
    np.savez(tmp_path / WEIGHTS, **{key: np.asarray(values).astype(np.float16)
                                    for key, values in named_weights(loaded.model).items()})
    weights = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / ONNX).write_bytes(model_onnx(loaded, "0" * 64, weights))
    exported = open_exported(tmp_path / ONNX)
    assert (exported.metadata.config, exported.metadata.weights) == ("0" * 64, hashlib.sha256(weights).hexdigest())
    both = loaded._replace(model=None, exported=exported), loaded
    inputs = np.random.default_rng(0).random((3, loaded.image_size, loaded.image_size, exported.metadata.channels),
                                             np.float32)
    if exported.metadata.states:        # two subjects' photos, one after the other
        found, wanted = (predictor_of(one).predict(np.stack([inputs, inputs[::-1]])) for one in both)
        assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    else:
        found, wanted = (run_of(one)(inputs) for one in both)
    assert found.shape == wanted.shape and np.ptp(wanted) > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("name", BUNDLED)
def test_kernels_are_stored_once(name):
    """In weights.npz, as float16, which model.onnx points into."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    folder = BUNDLED[name]
    assert (folder / ONNX).stat().st_size < 0.1 * (folder / WEIGHTS).stat().st_size
    model = onnx.load(folder / ONNX)
    kernels = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    half = [values for values in kernels.values() if values.dtype == np.float16]
    with np.load(folder / WEIGHTS) as stored:
        wanted = [stored[key] for key in stored.files if stored[key].ndim == 4 and not key.startswith("landmarks")]
    assert sum(values.size for values in half) > 0.99 * sum(values.size for values in wanted)
    for values in wanted:
        assert any(values.shape == one.shape and np.array_equal(values, one) for one in half) or values.size < 1024


@pytest.mark.parametrize("where", ["../secret.bin", "absolute", "link.bin"])
def test_a_graph_that_points_out_of_its_folder_is_refused(where, tmp_path):
    """Of a file from elsewhere: its weights lie beside it."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    folder, secret = tmp_path / "folder", tmp_path / "secret.bin"
    folder.mkdir()
    np.arange(1024, dtype=np.float32).tofile(secret)
    (folder / "link.bin").symlink_to(secret)
    tensor = onnx.TensorProto(name="k", data_type=1, dims=[1024], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=str(secret) if where == "absolute" else where)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["k"], ["y"])], "g", [],
                                   [onnx.helper.make_tensor_value_info("y", 1, [1024])], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    (folder / ONNX).write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="model.onnx: cannot be opened: .*(escapes model directory|bsolute)"):
        open_exported(folder / ONNX)


def test_a_compressed_or_inexact_kernel_is_stored_in_the_graph(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    values = np.arange(2048, dtype=np.float16).reshape(2, 1024)
    for write, inside in ((np.savez, False), (np.savez_compressed, True)):
        write(tmp_path / "w.npz", a=values[:1], b=values)
        model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
        put_kernels(model, {"k": values, "other": values + 1}, (tmp_path / "w.npz").read_bytes())
        kept = {tensor.name: bool(tensor.raw_data) for tensor in model.graph.initializer}
        assert kept == {"k/half": inside, "other/half": True}
    tf = pytest.importorskip("tensorflow")
    graph = tf.Graph()
    with graph.as_default():
        tf.constant(np.full(2000, 0.1, np.float32), name="inexact")
        tf.constant(np.full(2000, 0.5, np.float32), name="exact")
        tf.constant(np.full(20, 0.5, np.float32), name="small")
    taken = take_kernels(graph.as_graph_def())
    assert list(taken) == ["exact"] and taken["exact"].dtype == np.float16
