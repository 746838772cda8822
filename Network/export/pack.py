"""Weights small enough to be bundled:  python -m Network.export.pack RUN [-o FOLDER] [--overwrite]

FOLDER is ./NETWORK by default, where NETWORK is the network's name ("compact"); a packed model there is an error, but
with --overwrite. Writes FOLDER/config.json and FOLDER/weights.npz, the weights of a run's checkpoint by name, as
float16, and reports how far the rounding moves the predictions for rendered faces; and FOLDER/model.onnx, the same
network for onnxruntime (`Network/export/onnx_model.py`), where it can be exported. The weights of `compact` need a new
keypoint model afterwards: python -m Network.readout.fit FOLDER SHARDS. `Network.inference.registry.load` reads FOLDER.
"""
from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from pathlib import Path

import keras
import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.io.atomic import all_or_none, write_atomic, write_text
from Dataset.io.command import one_line
from Dataset.io.images import minmax
from Dataset.representations.depth import THRESHOLD
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext
from Network.config.run_config import digest
from Network.engine.loaded import ONNX, WEIGHTS, Loaded, began, trained
from Network.export.onnx_model import model_onnx
from Network.inference.registry import predictor_class, predictor_of
from Network.training.checkpoints import CHECKPOINTS, model_from_config
from Network.training.loading import WEIGHTS_VERSION, load_model
from Network.training.named_weights import fill, named_weights

log = logging.getLogger(__name__)
#: of config.json
KEPT = ("network", "preset", "model", "order", "shards", "face_model", "train", "settings",
        "initial_weights", "versions")
MAX_BYTES = 16 * 2**20    # bytes
MAX_MOVED = 2e-3       # unit sphere: 0.2 mm
FLIPPED = 0.01          # of a face's pixels


def pack(loaded: Loaded, folder: Path, images: np.ndarray | None = None, overwrite: bool = False, onnx: bool = True
         ) -> float:
    """Write a loaded run as a weight folder -> largest distance (unit sphere) that float16 moves any predicted point.

    images  (B, T, S, S, 3) float32 to measure it on; None renders two subjects of the built-in face
    onnx    write model.onnx, too; a network that cannot be exported goes without, with a warning
    ValueError when `folder` holds a model (unless `overwrite`), the model comes without a config or with a history that
    cannot be read, float16 cannot hold a weight or moves a point by more than MAX_MOVED, or the weights are too large;
    then nothing is written.
    """
    if not loaded.config:
        raise ValueError(f"{loaded.source}: has no config.json beside it; pack a run folder")
    if not overwrite and any((folder / name).exists() for name in (WEIGHTS, "config.json")):
        raise ValueError(f"{folder}: holds a model already; name another folder with -o, or add --overwrite")
    training = trained(loaded)
    packed = predictor_class(loaded.config["network"]).packed(loaded)
    with np.errstate(over="ignore"):        # an overflow is found, and named, below
        half = {name: np.asarray(w).astype(np.float16) for name, w in named_weights(packed).items()}
    overflowing = [name for name, values in half.items() if not np.isfinite(values).all()]
    if overflowing:
        raise ValueError(f"{loaded.source}: holds a weight that float16 cannot hold, {overflowing[0]}")
    rounded = model_from_config(loaded.config)
    fill(named_weights(rounded), half, str(loaded.source), more=True)
    error = rounding_error(loaded, rounded, _renders(loaded.image_size) if images is None else images)
    if error > MAX_MOVED:
        raise ValueError(f"{loaded.source}: float16 moves a point by {error:.2e}, at most {MAX_MOVED:g} is allowed")
    kept = {name: loaded.config[name] for name in KEPT if name in loaded.config}
    kept["training"], kept["began"] = training, began(loaded.config)
    if kept.get("settings", {}).get("warm_start"):      # its name, without the path on this machine
        kept["settings"] = {**kept["settings"], "warm_start": Path(kept["settings"]["warm_start"]).name}
    config = json.dumps(kept, indent=1) + "\n"
    data = io.BytesIO()
    # not compressed, which would save 8 %: model.onnx has its kernels from here
    np.savez(data, version=np.array(WEIGHTS_VERSION), config=np.array(digest(config)), **half)
    exported = _exported(loaded.with_model(rounded), config, data.getvalue()) if onnx else None
    size = data.tell() + len(exported or b"")
    if size > MAX_BYTES:
        raise ValueError(f"{loaded.source}: takes {size} bytes, at most {MAX_BYTES} are bundled")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ONNX).unlink(missing_ok=True)         # of the model that is replaced
    with all_or_none():
        write_text(folder / "config.json", config)
        write_atomic(folder / WEIGHTS, lambda temporary: temporary.write_bytes(data.getvalue()))
        if exported is not None:
            write_atomic(folder / ONNX, lambda temporary: temporary.write_bytes(exported))
    return error


def _exported(rounded: Loaded, config: str, weights: bytes) -> bytes | None:
    """model.onnx of a network with rounded weights; None, with a warning, where there is no way."""
    try:
        return model_onnx(rounded, digest(config), weights)
    except ValueError as error:
        log.warning("without %s, so that Keras runs this network: %s", ONNX, error)
        return None


def rounding_error(loaded: Loaded, rounded: keras.Model, images: np.ndarray) -> float:
    """Largest distance between points predicted for images (B, T, S, S, 3) with exact and with rounded weights, in the
    unit sphere. Of a network of keypoints between these, whose crop is about as wide as the unit sphere; of one that
    predicts a surface or UV maps between these (`surface_moved`, `uv_moved`), since one pixel more can change the fit
    to them."""
    if predictor_class(loaded.config["network"]).representation == "keypoints":
        before, after = (np.asarray(model(images, training=False)["keypoints"]) for model in (loaded.model, rounded))
        return 2 * float(np.linalg.norm(after - before, axis=-1).max())
    before, after = predictor_of(loaded), predictor_of(loaded.with_model(rounded))
    flat = images.reshape(-1, *images.shape[2:])
    if before.maps == "uv":
        return uv_moved(before.answers(flat), after.answers(flat))
    if before.photo_surface:
        return surface_moved(before.answers(flat), after.answers(flat))
    return float(np.linalg.norm(after.predict(images) - before.predict(images), axis=-1).max())


def uv_moved(before: np.ndarray, after: np.ndarray) -> float:
    """UV maps (B, S, S, C) of the same images -> by how much they move the points that they name, about in the unit
    sphere, whose diameter is a side of the atlas: at 99 of 100 pixels that both see in the face. Infinite where more
    than FLIPPED of the face's pixels are seen by one of the two alone, 0 where neither sees any."""
    there = [maps[..., 2] >= 0.5 for maps in (before, after)]
    both, either = there[0] & there[1], there[0] | there[1]
    if (either & ~both).sum() > FLIPPED * either.sum():
        return np.inf
    moved = 2 * np.linalg.norm(after[..., :2] - before[..., :2], axis=-1)[both]
    return float(np.quantile(moved, 0.99)) if len(moved) else 0.0


def surface_moved(before: np.ndarray, after: np.ndarray) -> float:
    """Depths in [-1, 1] (..., 1), or logits of volumes (..., S, D), of the same images -> by how much the surface
    moves, about in the unit sphere, whose diameter is a side of the crop: the depth, at 99 of 100 pixels that both see
    (at a fold one jumps from sheet to sheet); of volumes how much more or less of a ray is filled, mean over the rays
    that both fill. Infinite where more than FLIPPED of the face's pixels (rays) are seen by one of the two alone."""
    if before.shape[-1] == 1:
        there = [values[..., 0] >= THRESHOLD for values in (before, after)]
        moved = np.abs(after - before)[..., 0]
    else:
        filled = [(values > 0).sum(-1) for values in (before, after)]
        there = [count > 0 for count in filled]
        moved = np.abs(filled[1] - filled[0]) * (2.0 / before.shape[-2])
    both, either = there[0] & there[1], there[0] | there[1]
    if not either.any():
        return 0.0
    if not both.any() or (either & ~both).sum() > FLIPPED * either.sum():
        return np.inf
    return float(np.quantile(moved[both], 0.99) if before.shape[-1] == 1 else moved[both].mean())


def _renders(size: int) -> np.ndarray:
    """(2, 4, size, size, 3) float32: two subjects, four images of each."""
    options = RenderOptions(subjects=2, images=4, size=size, seed=2**31, detect=0.0)
    context = RenderContext(load_face_model(), threads=1)
    return np.stack([[minmax(image) for image in render_subject(p, options, context)["images"]] for p in range(2)])


@one_line("Network.export.pack")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Network.export.pack", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="default: ./NETWORK")
    parser.add_argument("--overwrite", action="store_true", help="replace a packed model in FOLDER")
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default="best_validation")
    logging.basicConfig(level=logging.WARNING, format="Network.export.pack: %(message)s")
    arguments = parser.parse_args(argv)
    loaded = load_model(arguments.run, arguments.checkpoint)
    folder = arguments.output or Path(loaded.config.get("network", "model"))
    error = pack(loaded, folder, overwrite=arguments.overwrite)
    sizes = ", ".join(f"{name} {(folder / name).stat().st_size / 2**20:.2f} MiB"
                      for name in (WEIGHTS, ONNX) if (folder / name).is_file())
    print(f"{folder}: {sizes}; float16 moves a point by at most {error:.2e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
