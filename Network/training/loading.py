"""Model files -> models, whoever wrote them: run folders, weight folders (Network/export/pack.py), `.keras`, `.h5`.

Nothing in a file is ever run: a `.keras` file beside a config.json gives its weights to a model of our own; one alone
is read in Keras's safe mode; of an `.h5` file only the arrays are read, through h5py, in the order in which its
layers were listed.
"""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Sequence

import h5py
import keras
import numpy as np

from Dataset.io.archives.hdf5 import check_hdf5
from Dataset.io.archives.npz import read_npz
from Dataset.representations.points import SIZE
from Network.config.archive import MAX_BYTES, check_archive
from Network.config.run_config import digest
from Network.engine.loaded import WEIGHTS, Loaded, bundled_models, model_path
from Network.models.registry import NETWORKS, get_network
from Network.training.checkpoints import CHECKPOINTS, RunFolder, model_from_config
from Network.training.named_weights import copy_weights, fill, named_weights

log = logging.getLogger(__name__)
WEIGHTS_VERSION = 2


def load_model(path: str | Path, which: str = "best_validation") -> Loaded:
    """Load a run folder's checkpoint `which`, a weight folder, a `.keras` or an `.h5` file (the thesis's network), or
    the bundled model of this name ("compact"), where no such file exists.

    ValueError, in one line that names the file, for anything else.
    """
    path = model_path(path)
    if path.is_dir():
        if which not in CHECKPOINTS:
            raise ValueError(f"checkpoint must be one of {', '.join(CHECKPOINTS)}, got {which!r}")
        config = RunFolder(path).config()       # names what is wrong with a folder that is no run
        if (path / WEIGHTS).is_file():
            model = _built(config, path)
            if not read_weights(path / WEIGHTS, model, True):       # of a model with more outputs
                whole = model_from_config(config, training=True)
                read_weights(path / WEIGHTS, whole)
                copy_weights(whole, model)
            return _loaded(model, config, path)
        file = path / f"{which}.keras"
        if not file.exists():
            raise ValueError(f"{path}: holds no {file.name} yet")
        return load_model(file)
    if not path.is_file():
        raise ValueError(f"{path}: no such model file or run folder; bundled are {', '.join(bundled_models())}")
    config = RunFolder(path.parent).config() if (path.parent / "config.json").is_file() else {}
    readers = {".keras": _read_keras, ".h5": _read_h5}
    if path.suffix not in readers:
        raise ValueError(f"{path}: a model is a run folder, a .keras or an .h5 file")
    try:
        model = readers[path.suffix](path, config)
    except MemoryError:
        raise
    except Exception as error:      # zipfile, h5py, Keras and TensorFlow have types of their own for what is damaged
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = reason.removeprefix(f"{path}: ").removeprefix("is no model of this project: ")
        raise ValueError(f"{path}: is no model of this project: {reason}") from None
    return _loaded(model, config, path)


def _built(config: dict[str, Any], path: Path, training: bool = False) -> keras.Model:
    """`model_from_config`, whose ValueError names the folder."""
    try:
        return model_from_config(config, training=training)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_weights(path: Path, model: keras.Model, optional: bool = False) -> bool:
    """Fill a model from weights.npz -> True. ValueError, naming the file, when it is none, or not of the config beside
    it. optional: False, and nothing is done, where its arrays are not those of this model by name."""
    weights = read_npz(path, 8 * model.count_params() + 2**20, "weights of this program")
    try:
        version, config = int(weights.pop("version")), str(weights.pop("config"))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: holds no weights of this program ({error})") from None
    if version != WEIGHTS_VERSION:
        raise ValueError(f"{path}: weights of version {WEIGHTS_VERSION} are needed, received {version}")
    if config != digest((path.parent / "config.json").read_text()):
        raise ValueError(f"{path}: belongs to another config.json than the one beside it")
    names = named_weights(model)
    if optional and names.keys() != weights.keys():
        return False
    fill(names, weights, str(path))
    return True


def warm_start(model: keras.Model, source: str, prefixes: Sequence[str] = ()) -> int:
    """Copy weights from a run or model file into a new model, layer by layer by name -> number of layers.

    prefixes  only layers whose names or paths begin with one of them; (): all
    A model in a model counts by its layers, by path ("generator/down_0"). A file that holds such a part alone, as
    pix2pix's weight folder holds the generator, fills the part of its name; with `prefixes` a layer in a part also
    takes the weights of the same name in another kind of network. A wider convolution takes the narrower one's weights
    so that the function is kept at first (Chen et al. 2016, "Net2Net"). Layers of another kind, and narrower ones, keep
    theirs. Nothing happens for source "". ValueError when no layer fits, or when a prefix names no layer of the model.
    """
    if not source:
        return 0
    path = Path(source)
    if (path / "config.json").is_file() and not (path / WEIGHTS).is_file():
        first = _built(RunFolder(path).config(), path, training=True)       # a first stage has no points to load
        RunFolder(path).load_weights(first, "best_validation")
    else:
        first = load_model(path).model
    ours, parts = _paths(model), {layer.name for layer in model.layers if isinstance(layer, keras.Model)}
    known, taken = _paths(first, f"{first.name}/" if first.name in parts else ""), 0
    for prefix in prefixes:
        if not _named(ours, (prefix,)):
            raise ValueError(f"transfer: the network has no layer whose name begins with {prefix!r}")
    for name, layer in (_named(ours, prefixes) if prefixes else ours).items():
        found = known.get(name, known.get(name.rsplit("/", 1)[-1]) if prefixes else None)
        weights = found.get_weights() if found is not None else []
        shapes = [w.shape for w in weights], [tuple(w.shape) for w in layer.weights]
        wider = isinstance(layer, (keras.layers.Conv2D, keras.layers.BatchNormalization)) and _widens(*shapes)
        if weights and (wider or shapes[0] == shapes[1]):
            layer.set_weights([_widened(old, new) for old, new in zip(weights, layer.get_weights())])
            taken += 1
    if not taken:
        raise ValueError(f"{source}: shares no layer with this network")
    weighty = sum(bool(layer.weights) for layer in ours.values())
    log.info("%s: initial weights of %d of %d layers", source, taken, weighty)
    return taken


def _paths(model: keras.Model, before: str = "") -> dict[str, keras.layers.Layer]:
    """Every layer by its path: its name, behind those of the models that it is in."""
    found = {}
    for layer in model.layers:
        inner = isinstance(layer, keras.Model)
        found |= _paths(layer, f"{before}{layer.name}/") if inner else {before + layer.name: layer}
    return found


def _named(layers: dict[str, keras.layers.Layer], prefixes: Sequence[str]) -> dict[str, keras.layers.Layer]:
    """Those whose path or own name begins with one of `prefixes`."""
    begins = tuple(prefixes)
    return {path: layer for path, layer in layers.items() if path.startswith(begins) or layer.name.startswith(begins)}


def _widens(old: list[tuple[int, ...]], new: list[tuple[int, ...]]) -> bool:
    """Whether weights of the shapes `old` fit into `new`: equal but for the channels, the last two axes."""
    return len(old) == len(new) and all(
        len(a) == len(b) and a[:-2] == b[:-2] and all(i <= j for i, j in zip(a[-2:], b[-2:])) for a, b in zip(old, new))


def _widened(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`new` with `old` (..., I, O) in its first channels; old outputs do not depend on new inputs."""
    if old.shape == new.shape:
        return old
    new = new.copy()
    if old.ndim == 1:
        new[:len(old)] = old
    else:
        new[..., :old.shape[-1]] = 0
        new[..., :old.shape[-2], :old.shape[-1]] = old
    return new


def freeze(model: keras.Model, prefixes: Sequence[str]) -> None:
    """Keep the weights of all layers whose names begin with one of `prefixes`. ValueError for one that names none."""
    for prefix in prefixes:
        named = _named(_paths(model), (prefix,))
        if not named:
            raise ValueError(f"freeze: the network has no layer whose name begins with {prefix!r}")
        for layer in named.values():
            layer.trainable = False


def thesis_model() -> keras.Model:
    """The thesis's network with new weights, for its layers and its size."""
    network = get_network("convlstm")
    return network.build(network.presets["thesis"])


def _loaded(model: keras.Model, config: dict[str, Any], source: Path) -> Loaded:
    """Read sizes off a model. ValueError when one without a config does not turn (B, T, H, W, 3) into (B, N, 3)."""
    takes, gives = tuple(model.input_shape), model.output_shape
    if len(takes) == 5 and takes[-1] == 3 and isinstance(gives, tuple) and len(gives) == 3 and gives[-1] == 3:
        return Loaded(model, config, source, gives[1], takes[2], takes[1], config.get("order", "random"))
    if not config:
        raise ValueError(f"{source}: must map (B, T, H, W, 3) images to (B, N, 3) points, maps {takes} to {gives}")
    return Loaded(model, config, source, SIZE ** 2, takes[-2], None, "grid")


def _read_keras(path: Path, config: dict[str, Any]) -> keras.Model:
    if config:
        model = model_from_config(config)
        run = RunFolder(path.parent)
        if run.has_weights(path.stem):
            run.load_weights(model, path.stem)
        else:
            check_archive(path, alone=False)
            model.load_weights(path)
        return model
    for name in NETWORKS:               # registers the layers that a bare file may name
        get_network(name)
    check_archive(path, alone=True)
    return keras.models.load_model(path, compile=False, safe_mode=True)


def _read_h5(path: Path, config: dict[str, Any]) -> keras.Model:
    check_hdf5(path, MAX_BYTES)
    if config:
        model = model_from_config(config)
    else:                               # the thesis's model.h5; it runs on any number of images
        model = thesis_model()
    weights = read_h5_weights(path)
    if weights is None:                 # Keras 3's .weights.h5: arrays only, no config in it
        model.load_weights(path)
        return model
    shapes, wanted = [w.shape for w in weights], [tuple(w.shape) for w in model.weights]
    if shapes != wanted:
        at = next((i for i, (a, b) in enumerate(zip(shapes, wanted)) if a != b), min(len(shapes), len(wanted)))
        raise ValueError(f"its {len(shapes)} weights do not fit the network's {len(wanted)}; first difference at {at}")
    model.set_weights(weights)
    return model


def read_h5_weights(path: Path) -> list[np.ndarray] | None:
    """The arrays of a Keras 2 `.h5` file in the order of its layers; None when the file is not laid out so."""
    with h5py.File(path, "r") as file:
        root = file["model_weights"] if "model_weights" in file else file
        if "layer_names" not in root.attrs:
            return None
        return [np.asarray(root[_text(layer)][_text(name)])
                for layer in root.attrs["layer_names"] for name in root[_text(layer)].attrs["weight_names"]]


def _text(name: bytes | str) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
