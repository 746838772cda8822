"""Photos -> detector -> network -> face: what demo.py and any other program call."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import Iterable, NamedTuple, Sequence

import numpy as np

from Dataset.detect import Detection, detect_faces
from Dataset.images import crop_resize, minmax, read_image
from Network.loading import Loaded

log = logging.getLogger(__name__)
Box = tuple[int, int, int, int]


class Crop(NamedTuple):
    """A face cut out of a photo. `image` (S, S, 3) uint8 BGR; `box` (x, y, w, h) in the photo's pixels."""

    image: np.ndarray
    box: Box
    source: str
    pass_name: str


class Prediction(NamedTuple):
    """`points` (N, 3) float32 in the unit sphere, head frame; `crops` the faces it was made from."""

    points: np.ndarray
    crops: list[Crop]


def crop_faces(image: np.ndarray, size: int, source: str, *, box: Box | None = None, every_face: bool = False
               ) -> list[Crop]:
    """The largest face (or every face, largest first) of a BGR photo as (size, size, 3) crops; [] when none is found.

    `box` takes the place of the detector. ValueError when it lies outside the photo.
    """
    if box is not None:
        x, y, w, h = box
        if w < 1 or h < 1 or x >= image.shape[1] or y >= image.shape[0] or x + w <= 0 or y + h <= 0:
            raise ValueError(f"{source}: box {x},{y},{w},{h} is not within the photo of "
                             f"{image.shape[1]}x{image.shape[0]} pixels")
        found = [Detection((x, y, w, h), 1.0, "by hand")]
    else:
        found = detect_faces(image)
    return [Crop(crop_resize(image, f.box, size), tuple(int(v) for v in f.box), source, f.pass_name)
            for f in (found if every_face else found[:1])]


def read_faces(paths: Iterable[str | Path], size: int, *, box: Box | None = None, every_face: bool = False
               ) -> list[list[Crop]]:
    """Crops of each photo. A photo without a face is left out with a warning; ValueError when no photo has one."""
    faces, empty = [], []
    for path in paths:
        crops = crop_faces(read_image(path), size, str(path), box=box, every_face=every_face)
        if crops:
            faces.append(crops)
        else:
            empty.append(str(path))
    if not faces:
        raise ValueError(f"{', '.join(empty)}: no face found; try a larger or sharper photo, or give --box x,y,w,h")
    for path in empty:
        log.warning("%s: no face found; skipped", path)
    return faces


def network_input(crops: Sequence[Crop]) -> np.ndarray:
    """(1, T, S, S, 3) float32 BGR, each image stretched to [0, 1] as in the thesis (listing B-3)."""
    if not crops:
        raise ValueError("at least one face is needed, got none")
    return np.stack([minmax(c.image) for c in crops])[None]


def reconstruct(loaded: Loaded, crops: Sequence[Crop]) -> Prediction:
    """One face from all crops. A model with a fixed number of images T gets the crops repeated up to T, or the first
    T of them. ValueError when there is none, or when the prediction is not finite."""
    crops = list(crops)
    if loaded.images and crops and len(crops) != loaded.images:
        crops = (crops * loaded.images)[:loaded.images]
    points = np.asarray(loaded.model(network_input(crops), training=False))[0].astype(np.float32)
    if not np.isfinite(points).all():
        raise ValueError(f"{loaded.source}: predicts points that are not finite")
    return Prediction(points, crops)
