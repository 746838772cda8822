"""Exported steps against the network on whole sequences; files that are none; nothing written when the check fails."""
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from Network import mobile3model
from Network.engine.exported import (KEY, SAVEDMODEL_JSON, TFLITE_JSON, TFLITE_SUM, VERSION, Exported, Metadata,
                                     Runtime, open_exported)
from Network.export import export as module
from Network.export.export import NAMES, PACKAGES, Step, compare, export, freeze, main, parse
from Network.models import compact
from Network.models.registry import NETWORKS
from Network.training.checkpoints import RunFolder
from tests import forkserver

TINY = dataclasses.replace(mobile3model.QUICK, image_size=32, points=64, batch_norm="merged", lstm_filters=(4, 4, 4),
                           block_filters=(4, 4, 4), link_filters=(4,), decoder_filters=(4, 4, 4, 4), shape_head=2)
STATES = ((1, 16, 16, 4), (1, 8, 8, 4), (1, 4, 4, 4), (1, 2, 2, 4))     # h of every ConvLSTM; c is as large
METADATA = Metadata(VERSION, "convlstm", "quick", "grid", 32, (("points", (1, 64, 3)),),
                    tuple(s for s in STATES for _ in "hc"), points=64)


def needs(form: str) -> None:
    for package in PACKAGES[form]:
        pytest.importorskip(package, reason=f"{package} is not installed; pip install -e '.[export]'")


def tiny_model(network=mobile3model, config=TINY, scale=0.4) -> keras.Model:
    """Weights far from zero, so that points and states depend on every image."""
    model = network.build(config)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 2.0, w.shape) if w.path.endswith(("moving_variance", "gamma"))
                       else rng.normal(scale=scale, size=w.shape) for w in model.weights])
    return model


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((1, count, 32, 32, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("export") / "run")
    folder.start({"network": "convlstm", "preset": "quick", "model": dataclasses.asdict(TINY), "order": "grid"})
    folder.save_weights(tiny_model(), "best_validation")
    return folder.path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """format -> what was exported, made once."""
    made = {}

    def get(form: str):
        needs(form)
        if form not in made:
            made[form] = export(run, form, tmp_path_factory.mktemp(form) / NAMES[form]).path
        return made[form]
    return get


@pytest.mark.parametrize("form", NAMES)
def test_a_stream_in_a_fresh_process_gives_what_the_network_gives_for_the_whole_sequence(form, exported, tmp_path):
    model, stream = tiny_model(), images(5)
    wanted = np.stack([model(stream[:, :count], training=False)[0] for count in range(1, 6)])
    assert min(np.abs(np.diff(wanted, axis=0)).max(axis=(1, 2))) > 1e-3       # every image changes the face
    np.save(tmp_path / "images.npy", stream)
    script = ("import sys, numpy as np\nfrom Network.engine.exported import open_exported\n"
              "exported, found = open_exported(sys.argv[1]), []\nstates = exported.initial_states()\n"
              "for image in np.load(sys.argv[2])[0]:\n"
              "    outputs, states = exported.step(image[None], states)\n    found.append(outputs['points'][0])\n"
              "assert 'Network.layers.convlstm' not in sys.modules and 'Network.training.loading' not in sys.modules\n"
              "assert not sys.argv[1].endswith('.onnx') or 'tensorflow' not in sys.modules\n"
              "np.save(sys.argv[3], found)")
    words = "-c", script, exported(form), tmp_path / "images.npy", tmp_path / "out.npy"
    if form == "onnx":      # without TensorFlow, which a fork has
        subprocess.run([sys.executable, *words], cwd=forkserver.ROOT, check=True)
    else:
        forkserver.run(*words, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, atol=2e-5)


@pytest.mark.parametrize("form", NAMES)
def test_a_network_without_states(form, tmp_path):
    """`compact`: each image alone -> keypoints and log-variances."""
    needs(form)
    config = compact.Config(image_size=32, encoder_filters=(4, 4, 4, 4), encoder_blocks=(0, 0, 1, 1), pyramid_filters=4,
                            appearance=2, fine_filters=3, refine_filters=4)
    model, stream = tiny_model(compact, config, scale=0.25), images(2)
    folder = RunFolder(tmp_path)
    folder.start({"network": "compact", "model": dataclasses.asdict(config), "order": "grid"})
    folder.save_weights(model, "best_training")
    opened = open_exported(export(tmp_path, form, which="best_training").path)
    assert opened.metadata.crop_margin == config.crop_margin and opened.metadata.preset is None
    assert opened.metadata.states == () and opened.initial_states() == []
    assert dict(opened.metadata.outputs) == {"keypoints": (1, 256, 2), "log_variance": (1, 256)}
    wanted = model(stream, training=False)
    for number in range(2):
        found, states = opened.step(stream[:, number])
        assert states == [] and set(found) == {"keypoints", "log_variance"}
        for name, values in found.items():
            np.testing.assert_allclose(values[0], wanted[name][0, number], atol=1e-4, err_msg=name)
    assert np.abs(wanted["keypoints"][0, 0] - wanted["keypoints"][0, 1]).max() > 1e-3


@pytest.mark.parametrize("form", NAMES)
def test_what_a_file_says_of_itself(form, exported):
    opened = open_exported(exported(form))
    assert opened.metadata == METADATA
    assert list(opened.runtime.inputs) == ["image", *(f"state_{i}" for i in range(8))]
    assert list(opened.runtime.outputs) == ["points", *(f"next_state_{i}" for i in range(8))]
    assert [state.shape for state in opened.initial_states()] == list(METADATA.states)
    assert not any(state.any() for state in opened.initial_states())


def test_other_programs_find_names_and_metadata_too(exported):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = onnx.load(exported("onnx"))
    assert [v.name for v in model.graph.input][:2] == ["image", "state_0"]
    assert [v.name for v in model.graph.output][:2] == ["points", "next_state_0"]
    assert [p.key for p in model.metadata_props] == [KEY]
    for text in (model.metadata_props[0].value, zipfile.ZipFile(exported("tflite")).read(TFLITE_JSON),
                 (exported("savedmodel") / SAVEDMODEL_JSON).read_text()):
        assert json.loads(text) == json.loads(METADATA.to_json())
        assert json.loads(text)["version"] == 3 and json.loads(text)["image_size"] == 32


def test_no_gradient_and_no_loop_is_exported(run, exported):
    graph = freeze(module.load_step(run))
    assert {node.op for node in graph.node}.isdisjoint({"While", "StatelessWhile", "PyFunc", "VarHandleOp"})
    program = (exported("savedmodel") / "saved_model.pb").read_bytes()
    assert b"_gradient_op_type" not in program and b"CustomGradient" not in program


def with_metadata(source, target, text: str):
    """A copy of an exported file with other metadata."""
    if source.is_dir():
        shutil.copytree(source, target)
        (target / SAVEDMODEL_JSON).write_text(text)
    elif source.suffix == ".onnx":
        import onnx
        model = onnx.load(source)
        onnx.helper.set_model_props(model, {KEY: text})
        onnx.save(model, target)
    else:
        content = source.read_bytes()
        content = content[:content.index(b"PK\x03\x04")]
        target.write_bytes(content)
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(TFLITE_JSON, text)
            archive.writestr(TFLITE_SUM, hashlib.sha256(content).hexdigest())
    return target


def changed(**values) -> str:
    return json.dumps({**json.loads(METADATA.to_json()), **values})


@pytest.mark.parametrize("form", NAMES)
def test_metadata_of_another_version_or_another_network(form, exported, tmp_path):
    cases = {"is of export version 1, this program reads version 3; export the network again": changed(version=1),
             "is of export version None": changed(version=None),
             "its inputs and outputs disagree with its metadata": changed(image_size=64),
             "its inputs and outputs disagree": changed(states=[list(s) for s in METADATA.states[:-1]]),
             "its faces3d metadata describe no exported step": changed(outputs={"points": [1, -4, 3]}),
             "its faces3d metadata name no version": "{}",
             "cannot be opened": "[[["}
    for number, (line, text) in enumerate(cases.items()):
        broken = with_metadata(exported(form), tmp_path / f"{number}{exported(form).suffix}", text)
        with pytest.raises(ValueError, match=line) as error:
            open_exported(broken)
        assert str(error.value).startswith(f"{broken}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("values", [{"states": [[1, "4"]]}, {"states": [4]}, {"states": 4}, {"image_size": 10**9},
                                    {"outputs": {"points": [True]}}, {"outputs": {}}, {"outputs": {"points": 4}},
                                    {"outputs": [1]}, {"crop_margin": -1}, {"order": "sorted"}, {"network": 3},
                                    {"more": 1}, {"states": [[8192] * 8]}, {"states": [[1]] * 999}])
def test_metadata_are_bounded(values):
    with pytest.raises(ValueError, match="describe no exported step"):
        Metadata.from_json(changed(**values))
    assert Metadata.from_json(changed(crop_margin=1.15)).crop_margin == 1.15


@pytest.mark.parametrize("form", NAMES)
def test_broken_files(form, exported, tmp_path):
    source = exported(form)
    file = source / "saved_model.pb" if source.is_dir() else source
    content = file.read_bytes()
    for number, broken in enumerate((b"", b"no network", content[:len(content) // 2])):
        target = tmp_path / f"{number}{source.suffix}"
        if source.is_dir():
            target = with_metadata(source, target, METADATA.to_json())
            (target / "saved_model.pb").write_bytes(broken)
        else:
            target.write_bytes(broken)
        with pytest.raises(ValueError, match="cannot be opened: ") as error:
            open_exported(target)
        assert str(error.value).startswith(f"{target}: ") and "\n" not in str(error.value)


def test_a_damaged_tflite_file_never_reaches_its_interpreter(exported, tmp_path):
    content = bytearray(exported("tflite").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(ValueError, match="a.tflite: cannot be opened: is damaged: its checksum is another"):
        open_exported(tmp_path / "a.tflite")


def test_what_is_no_exported_file(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    for path, line in ((tmp_path / "none.onnx", "no such exported file"), (tmp_path, "holds no faces3d metadata"),
                       (tmp_path / "photo.jpg", "is an .onnx file, a .tflite file or a SavedModel's folder")):
        with pytest.raises(ValueError, match=line):
            open_exported(path)


def adding(off: float = 0.0) -> Exported:
    """Points: the pixel plus the state, which is the last points. `off` is its mistake."""
    metadata = dataclasses.replace(METADATA, image_size=1, outputs=(("points", (1, 1, 3)),), states=((1, 1, 3),))

    def run(feed):
        points = feed["image"][:, 0] + feed["state_0"]
        return {"points": points, "next_state_0": points + np.float32(off)}
    return Exported(Path("x.onnx"), metadata, Runtime(*metadata.shapes(), run))


def test_a_step_refuses_what_is_no_image():
    step, state = adding().step, [np.ones((1, 1, 3), np.float32)]
    image = np.full((1, 1, 1, 3), 0.25)
    outputs, after = step(image, state)
    points = outputs["points"]
    np.testing.assert_array_equal(points, np.full((1, 1, 3), 1.25, np.float32))
    np.testing.assert_array_equal(after, [points])
    for bad, line in ((image[0], r"image must have shape \(1, 1, 1, 3\), got \(1, 1, 3\)"), (image + 1, r"in \[0, 1\]"),
                      (image * np.nan, "without NaN"), (np.zeros((1, 1, 1, 3), np.uint8), "must be floats")):
        with pytest.raises(ValueError, match=line):
            step(bad, state)
    with pytest.raises(ValueError, match="takes 1 states, got 0"):
        step(image, [])
    with pytest.raises(ValueError, match=r"state_0 must have shape \(1, 1, 3\), got \(3,\)"):
        step(image, [np.ones(3)])


@pytest.mark.parametrize("off, line", [(0.0, None), (3e-5, "points differs from Keras by 0.00012 at image 5"),
                                       (2e-4, "next_state_0 differs from Keras by 0.0002 at image 1, more than 0.0001"),
                                       (np.nan, "next_state_0 differs from Keras by nan")])
def test_the_comparison_carries_states_and_sees_drift(off, line):
    def keras_step(image, states):
        points = image[:, 0] + states[0]
        return {"points": points, "more": None}, [points]
    if line is None:
        assert compare(adding(off), keras_step, 1e-4, np.random.default_rng(0)) == 0
    else:
        with pytest.raises(ValueError, match=line):
            compare(adding(off), keras_step, 1e-4, np.random.default_rng(0))


@pytest.mark.parametrize("form", NAMES)
def test_nothing_is_written_when_the_check_fails(form, run, exported, tmp_path, monkeypatch, capsys):
    def other_weights(step: Step):
        graph = freeze(step)
        step.model.set_weights([w + 0.01 for w in step.model.get_weights()])
        return graph
    monkeypatch.setattr(module, "freeze", other_weights)
    exported(form)
    target = tmp_path / "new" / NAMES[form]
    assert main([str(run), "--format", form, "-o", str(target)]) == 2
    message, = capsys.readouterr().err.strip().splitlines()[-1:]
    assert message.startswith(f"Network.export.export: {NAMES[form]}: ") and message.endswith("nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_a_new_export_takes_the_place_of_an_old_one_only(run, exported, tmp_path, capsys):
    target = tmp_path / "phone"
    with_metadata(exported("savedmodel"), target, METADATA.to_json())
    (target / "left").write_text("of the old one")
    assert main([str(run), "--format", "savedmodel", "-o", str(target)]) == 0
    assert open_exported(target).metadata == METADATA and not (target / "left").exists()
    out = capsys.readouterr().out
    assert out.startswith(f"wrote {target}: ") and " MB, " in out and " ms a step" in out
    assert [p.name for p in tmp_path.iterdir()] == ["phone"]
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="photos: exists and is no exported SavedModel"):
        export(run, "savedmodel", tmp_path / "photos")
    with pytest.raises(ValueError, match="a.jpg: --output must be a file that ends in .tflite"):
        export(run, "tflite", tmp_path / "a.jpg")


def test_a_network_without_a_single_step(tmp_path, monkeypatch):
    plain = types.ModuleType("plain")
    plain.NETWORK = dataclasses.replace(mobile3model.NETWORK, build_step=None)
    monkeypatch.setitem(sys.modules, "plain", plain)
    monkeypatch.setitem(NETWORKS, "plain", "plain")
    folder = RunFolder(tmp_path / "run")
    folder.start({"network": "plain", "model": dataclasses.asdict(TINY)})
    folder.save_weights(mobile3model.build(TINY), "last")
    with pytest.raises(ValueError, match="last.keras: network plain has no single step to export"):
        export(tmp_path / "run", "tflite", which="last")
    plain.NETWORK = dataclasses.replace(mobile3model.NETWORK, initial_states=lambda config, batch: [np.ones((1, 2))])
    folder.save_weights(mobile3model.build(TINY), "last")
    with pytest.raises(ValueError, match="states of network plain do not begin with zeros"):
        export(tmp_path / "run", "tflite", which="last")


def test_bad_command_lines(run, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse([str(run), "--format", "pickle"])
    capsys.readouterr()
    with pytest.raises(ValueError, match="format must be one of onnx, tflite, savedmodel, got 'pickle'"):
        export(run, "pickle")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "tf2onnx" else True)
    assert main([str(run), "--format", "onnx", "-o", str(tmp_path / "a.onnx")]) == 2
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ("Network.export.export: --format onnx needs tf2onnx: "
                                       "pip install 'faces3d[export]'\n")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match="a.onnx: onnxruntime is not installed; pip install"):
        open_exported(tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="no such model file or run folder"):
        export(tmp_path / "none", "tflite")
