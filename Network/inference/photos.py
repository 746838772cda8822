"""Photos -> crops of faces: the detector's, turned upright, crops, re-crops, and the choice among a photo's faces."""
from __future__ import annotations

import logging
import os
from itertools import chain
from typing import Callable, Generic, Iterable, Iterator, Mapping, NamedTuple, Sequence, TypeVar

import numpy as np

from Dataset.detection.cascades import Detection
from Dataset.detection.upright import Upright, grown, turned_upright
from Dataset.io.images import MAX_PIXELS, Box, as_photo, crop_resize
from Dataset.io.inputs import NamedImage

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
#: detect(image (H, W, 3) uint8 BGR, every_face) -> detections, the largest first; `Network.engine.face_detector`
Detect = Callable[[np.ndarray, bool], Sequence[Detection]]
BY_HAND = "by hand"
FRONTAL = ("frontal", BY_HAND)      # passes of the detector after which a face is known to be frontal
HINT = "try a larger or sharper photo, turn it upright, or give --box x,y,w,h"
RELIABLE = 0.8
MAX_RECROPS = 3
MAX_PREVIEW = 512       # px: side of the crops that are kept for previews and textures, where no more is asked for
# Where the keypoints lie in the crops of training: the larger side of their bounding box (median, of the crop's side),
# the range of that side and the distance of its centre from the crop's centre, which hold 98 % of the heads that are
# turned by at most 30 degrees.
EXTENT, EXTENT_RANGE, MAX_OFF_CENTRE = 0.91, (0.74, 1.10), 0.15


class NoFace(ValueError):
    """An image in which the network finds no face."""


class Crop(NamedTuple):
    """The crop of a face in an image.

    image      (S, S, 3) uint8 BGR at the network's input size
    photo      (P, P, 3) uint8 BGR, P <= finest: the same square in a finer resolution, for previews and textures
    box        (x, y, w, h) px of the upright image
    source     name of the image
    pass_name  the detector's pass that found it, or "by hand"
    whole      (H, W, 3) uint8 BGR, the whole image, upright, for re-crops; None: no re-crops
    others     the image's other faces, the largest first
    upright    how the image was turned, so that the head is upright
    detected   the detector's score in [0, 1]; None: it gives none, or was not asked
    reliable   the box was named by the caller, or the detector's score is at least RELIABLE: such a crop is accepted
               whatever the network's score
    finest     px, of `photo`
    """

    image: np.ndarray
    photo: np.ndarray
    box: Box
    source: str
    pass_name: str
    whole: np.ndarray | None = None
    others: tuple["Crop", ...] = ()
    upright: Upright = Upright()
    detected: float | None = None
    reliable: bool = True
    finest: int = MAX_PREVIEW


class Scored(NamedTuple, Generic[Answer]):
    """A crop, the network's answer to it, and its score: a face from 1 on, none from 0 down; linear in between. A
    network that cannot score gives 1."""

    crop: Crop
    answer: Answer
    score: float = 1.0


def square_crop(image: np.ndarray, size: int, name: str = "image") -> Crop:
    """A square image (S, S, 3) uint8 BGR that already is a face's crop. ValueError for another shape or dtype,
    and for more pixels than a photo may have."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3 or image.dtype != np.uint8 \
            or not image.size:
        raise ValueError(f"a crop must be (S, S, 3) uint8 BGR, got {image.shape} {image.dtype}")
    if len(image) ** 2 > MAX_PIXELS:
        raise ValueError(f"a crop may have at most {MAX_PIXELS / 1e6:g} megapixels, got {len(image)}x{len(image)}")
    box = (0, 0, len(image), len(image))
    small = image if len(image) == size else crop_resize(image, box, size, "area")
    return Crop(small, image, box, name, BY_HAND)


def square_crops(images: Iterable[np.ndarray], size: int) -> list[Crop]:
    """`square_crop` of the images of one subject. ValueError, too, for none, and for what is no sequence of images."""
    wrong = isinstance(images, (str, bytes, bytearray, memoryview, Mapping, os.PathLike))
    if wrong or not isinstance(images, Iterable) or np.ndim(images if isinstance(images, np.ndarray) else [0]) == 0:
        raise ValueError(f"images must be a sequence of crops (S, S, 3) uint8 BGR, got {type(images).__name__}")
    crops = [square_crop(image, size) for image in images]
    if not crops:
        raise ValueError("images must hold at least one crop (S, S, 3) uint8 BGR, got none")
    return crops


def checked_photo(photo: NamedImage, box: Box | None) -> NamedImage:
    """A photo, its image as `as_photo` gives it. ValueError for what is no NamedImage, an image that is none, and a box
    that is no four whole numbers."""
    if not isinstance(photo, NamedImage):
        raise ValueError(f"photo must be a NamedImage, a name and an image, got {type(photo).__name__}")
    whole = isinstance(box, (tuple, list, np.ndarray)) and len(box) == 4 \
        and all(isinstance(one, (int, np.integer)) for one in box)
    if box is not None and not whole:
        raise ValueError(f"{photo.name}: box must be four whole numbers, x, y, width and height, got {str(box)[:40]}")
    return photo._replace(image=as_photo(photo.image, str(photo.name)))


def cut(image: np.ndarray, box: Box, size: int, name: str, pass_name: str, finest: int = MAX_PREVIEW) -> Crop:
    """The crop of a box (x, y, w, h) of an image (H, W, 3) uint8 BGR; pixels outside repeat the border."""
    photo = crop_resize(image, box, min(max(box[2:]), finest), "area")
    return Crop(crop_resize(image, box, size, "area"), photo, box, name, pass_name, image, finest=finest)


def crop_faces(photo: NamedImage, size: int, detect: Detect, *, box: Box | None = None, every_face: bool = False,
               margin: float = 1.0, finest: int = MAX_PREVIEW) -> list[Crop]:
    """The largest face (or every face, largest first) of an image as crops of `size` px; [] when none is found.

    detect  finds the faces
    box     in place of the detector
    margin  factor by which a box is grown before the crop, as in training
    finest  px, of each crop's `photo`
    NoFace where the detector sees only doubtful faces. ValueError when the box does not lie on the image.
    """
    name, image = photo
    if box is not None:
        return [cut(image, grown(_square(box, photo), margin), size, name, BY_HAND, finest)]
    found = detect(image, every_face)
    faces = [one for one in found if one.certain]
    if found and not faces:
        raise NoFace(f"{name}: no face is certain, the likeliest has a score of {max(one.score for one in found):.2f}; "
                     f"{HINT}")
    images: dict[Upright, np.ndarray] = {}
    crops = [_upright_crop(image, one, size, name, margin, finest, images) for one in faces]
    return crops if every_face or not crops else [crops[0]._replace(others=tuple(crops[1:]))]


def _upright_crop(image: np.ndarray, one: Detection, size: int, name: str, margin: float, finest: int,
                  images: dict[Upright, np.ndarray]) -> Crop:
    """The crop of a detection; images: the image as it was turned for others, by how it was turned."""
    upright = Upright.of(image.shape, one.roll)
    if upright not in images:
        images[upright] = turned_upright(image, upright)
    face = cut(images[upright], grown(upright.box(one.box), margin), size, name, one.pass_name, finest)
    return face._replace(upright=upright, detected=one.score if one.keypoints else None,
                         reliable=one.score >= RELIABLE)


def faces_of(source: Iterable[NamedImage], crops_of: Callable[[NamedImage], list[Crop]], every_face: bool = False
             ) -> Iterator[list[Crop]]:
    """The crops of each image, one image in memory at a time.

    crops_of    a Predictor's `crops`, with its options
    every_face  of one image only: identities across several are unknown
    An image without a face is skipped with a warning. ValueError when none has a face.
    """
    empty, doubtful, given = [], [], 0
    for number, photo in enumerate(source):
        if every_face and number:
            raise ValueError("--faces all takes one photo: identities across several are unknown")
        try:
            crops = crops_of(photo)
        except NoFace as error:
            crops = []
            doubtful.append(str(error))
        if crops:
            given += 1
            yield crops
        else:
            empty.append(photo.name)
    if given:           # else the error below names them
        for name in empty:
            log.warning("%s: no face found; skipped", name)
    elif len(empty) == len(doubtful) == 1:
        raise ValueError(doubtful[0])
    else:
        named = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise ValueError(f"{named}: no face found; {HINT}")


def best_crop(crop: Crop, look: Callable[[Crop], Scored[Answer]]) -> Scored[Answer]:
    """The first of the crop and its image's other faces that the network scores as a face; else the one with the best
    positive score; else the crop itself, if it is reliable.

    look  may raise NoFace. NoFace where no face is accepted.
    """
    first = best = None
    error = NoFace(f"{crop.source}: no face: the network sees none; {HINT}")
    for face in chain((crop,), crop.others):
        try:
            seen = look(face)
        except NoFace as missing:
            error = missing if face is crop else error
            continue
        if seen.score >= 1:
            return seen
        first = seen if face is crop else first
        best = seen if best is None or seen.score > best.score else best
    if best is not None and best.score > 0:
        return best
    if first is None or not crop.reliable:
        raise error
    return first


def recropped(crop: Crop, look: Callable[[Crop], Answer], keypoints: Callable[[Answer], np.ndarray | None]
              ) -> tuple[Crop, Answer]:
    """`look` at a crop, then at re-crops while the face is off the crop's centre, at most MAX_RECROPS times.

    keypoints  answer -> (K, 2) in normalised coordinates of its crop, or None. NoFace in the first crop is raised;
    in a later one the crop before it is kept.
    """
    answer = look(crop)
    for _ in range(MAX_RECROPS):
        where = keypoints(answer)
        better = None if where is None else recrop(crop, where)
        if better is None:
            break
        try:
            answer, crop = look(better), better
        except NoFace:
            break
    return crop, answer


def recrop(crop: Crop, keypoints: np.ndarray) -> Crop | None:
    """A crop in which the face lies as in training; None where it already does, or without the whole image.

    keypoints (K, 2): of the face, in normalised coordinates of the crop. A crop moves by at most
    half its side and changes its size by at most a factor of two, however wrong the keypoints are.
    """
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    centre, extent = (low + high) / 2, float((high - low).max())
    if crop.whole is None or (EXTENT_RANGE[0] <= extent <= EXTENT_RANGE[1]
                              and np.abs(centre - 0.5).max() <= MAX_OFF_CENTRE):
        return None
    x, y, w, h = crop.box
    side = max(16, round(max(w, h) * float(np.clip(extent / EXTENT, 0.5, 2.0))))
    middle = np.array([x, y]) + np.clip(centre, 0.0, 1.0) * (w, h)
    height, width = crop.whole.shape[:2]
    if not (0 <= middle[0] < width and 0 <= middle[1] < height):
        return None
    box = (round(middle[0] - side / 2), round(middle[1] - side / 2), side, side)
    return cut(crop.whole, box, len(crop.image), crop.source, crop.pass_name, crop.finest)._replace(
        upright=crop.upright, detected=crop.detected, reliable=crop.reliable)


def _square(box: Box, photo: NamedImage) -> Box:
    """A square about the same centre: the network was trained on undistorted faces. ValueError as `crop_faces`."""
    x, y, w, h = box
    height, width = photo.image.shape[:2]
    if not (1 <= w <= 2 * width and 1 <= h <= 2 * height and -w < x < width and -h < y < height):
        raise ValueError(f"{photo.name}: box {x},{y},{w},{h} does not lie on the photo of {width}x{height} pixels")
    side = max(w, h)
    return x - (side - w) // 2, y - (side - h) // 2, side, side
