"""Photos -> detector -> network -> face: what demo.py and any other program call."""
from __future__ import annotations

import logging
from typing import Iterable, NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.detect import Detection, detect_faces
from Dataset.images import Box, crop_resize, minmax
from Dataset.mesh import Mesh
from Dataset.representations.points import grid_triangles
from Dataset.sources import Picture
from Network.loading import Loaded

log = logging.getLogger(__name__)
#: scale, x, y: point (px, py) of a unit-sphere cloud lies at (x + scale px, y - scale py) of the detector's square
FACE_IN_BOX = (0.611, 0.5, 0.48)
FRONTAL = ("frontal", "alt2", "by hand")
LOOK = 512      # pixels: no crop kept for a preview or for colours is larger


class Crop(NamedTuple):
    """A face cut out of a photo.

    `image` (S, S, 3) uint8 BGR for the network; `photo` (P, P, 3) uint8 BGR, P <= 512, the same square finer, for
    people to look at; `box` (x, y, w, h) in the picture's pixels.
    """

    image: np.ndarray
    photo: np.ndarray
    box: Box
    source: str
    pass_name: str


class Prediction(NamedTuple):
    """`points` (N, 3) float32 in the unit sphere, head frame; `crops` the faces it was made from."""

    points: np.ndarray
    crops: list[Crop]


def crop_faces(picture: Picture, size: int, *, box: Box | None = None, every_face: bool = False) -> list[Crop]:
    """The largest face (or every face, largest first) of a picture as (size, size, 3) crops; [] when none is found.

    `box` takes the place of the detector. ValueError when it does not lie on the picture.
    """
    name, image = picture
    height, width = image.shape[:2]
    if box is not None:
        x, y, w, h = box
        if not (1 <= w <= 2 * width and 1 <= h <= 2 * height and -w < x < width and -h < y < height):
            raise ValueError(f"{name}: box {x},{y},{w},{h} does not lie on the picture of {width}x{height} pixels")
        found = [Detection((x, y, w, h), 1.0, "by hand")]
    else:
        found = detect_faces(image, every_stage=every_face)
    return [Crop(crop_resize(image, f.box, size, "area"), crop_resize(image, f.box, min(max(f.box[2:]), LOOK), "area"),
                 f.box, name, f.pass_name)
            for f in (found if every_face else found[:1])]


def read_faces(source: Iterable[Picture], size: int, *, box: Box | None = None, every_face: bool = False
               ) -> list[list[Crop]]:
    """Crops of each picture. One without a face is left out with a warning; ValueError when none has a face."""
    faces, empty = [], []
    for picture in source:
        crops = crop_faces(picture, size, box=box, every_face=every_face)
        if crops:
            faces.append(crops)
        else:
            empty.append(picture.name)
    if not faces:
        named = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise ValueError(f"{named}: no face found; try a larger or sharper photo, or give --box x,y,w,h")
    for name in empty:
        log.warning("%s: no face found; skipped", name)
    return faces


def network_input(crops: Sequence[Crop]) -> np.ndarray:
    """(1, T, S, S, 3) float32 BGR, each image stretched to [0, 1] as in the thesis (listing B-3)."""
    if not crops:
        raise ValueError("at least one face is needed, got none")
    return np.stack([minmax(c.image) for c in crops])[None]


def face_mesh(prediction: Prediction, ordered: bool) -> Mesh:
    """A prediction as a mesh: with the grid's triangles and, where a photo shows the face from the front, its colours.

    An unordered prediction is a cloud without either.
    """
    points = prediction.points.astype(np.float64)
    if not ordered:
        return Mesh(points)
    triangles = grid_triangles(round(len(points) ** 0.5))
    frontal = next((crop for crop in prediction.crops if crop.pass_name in FRONTAL), None)
    return Mesh(points, triangles, colours=None if frontal is None else photo_colours(points, frontal.photo))


def photo_colours(points: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The photo's colour at each point -> (N, 3) uint8 RGB, for a face seen from the front.

    points  (N, 3) in the unit sphere, head frame; photo (P, P, 3) uint8 BGR, the detector's square. Where in it a face
    lies was measured on 160 frontal renders (FACE_IN_BOX, rms 2.6 % of the square): a coat of colour, no measurement.
    """
    scale, x, y = FACE_IN_BOX
    place = np.stack([x + scale * points[:, 0], y - scale * points[:, 1]], 1) * len(photo) - 0.5
    bgr = cv2.remap(photo, place[:, None].astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(bgr[:, 0, ::-1])


def reconstruct(loaded: Loaded, crops: Sequence[Crop]) -> Prediction:
    """One face from all crops. A model with a fixed number of images T gets the crops repeated up to T, or the first
    T of them. ValueError when there is none, or when the prediction is not finite."""
    crops = list(crops)
    if loaded.images and crops and len(crops) != loaded.images:
        crops = (crops * loaded.images)[:loaded.images]
    points = loaded.predict(network_input(crops))[0]
    if not np.isfinite(points).all():
        raise ValueError(f"{loaded.source}: predicts points that are not finite")
    return Prediction(points, crops)
