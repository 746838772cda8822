"""Photos -> detector -> network -> face: what demo.py and any other program call."""
from __future__ import annotations

import logging
from itertools import chain, islice
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from Dataset.images import Box, crop_resize, minmax
from Dataset.mesh import Mesh
from Dataset.representations.points import grid_triangles
from Dataset.sources import Picture
from Dataset.texture import grid_uv
from Network.candidates import SURE_PASSES, candidates, find, grown
from Network.colours import Colours, View, frontal_view, view_of
from Network.loading import Loaded

log = logging.getLogger(__name__)
FRONTAL = ("frontal", "alt2", "by hand")
JUDGES = ("compact", "uvnet", "coarse")     # networks that tell a face from what is none: their looks have a doubt
MOST_CUTS = 3   # times that a crop is cut again
LOOK = 512      # pixels: no crop kept for a preview or for colours is larger
# Where places lie in the crops of training: the larger side of their extent, of the crop (median), and within what
# extent and distance of its centre from the crop's 98 % of the heads lie that are turned by no more than 30 degrees
EXTENT, EXTENTS, OFF_CENTRE = 0.91, (0.74, 1.10), 0.15


class NoFace(ValueError):
    """A crop in which the network sees no face."""


class Crop(NamedTuple):
    """A face cut out of a photo.

    `image` (S, S, 3) uint8 BGR for the network; `photo` (P, P, 3) uint8 BGR, P <= 512, the same square finer, for
    people to look at; `box` (x, y, w, h) in the picture's pixels; `whole` (H, W, 3) the picture, to cut again from;
    `others` gives the crops of the other places where the face may be, likeliest first, None where there are none;
    `sure`: somebody named the box, or a sure stage of the detector found it, so that a face comes of it in any case.
    """

    image: np.ndarray
    photo: np.ndarray
    box: Box
    source: str
    pass_name: str
    whole: np.ndarray | None = None
    others: Callable[[], Iterator["Crop"]] | None = None
    sure: bool = True


class Look(NamedTuple):
    """What a network sees in a crop, cut again where the face lay off its place: `doubt` at most 0 where it takes what
    it sees for a face, from 1 on where it does not, 0 of a network that cannot judge; `answer` as its stream wants it.
    """

    crop: Crop
    doubt: float
    answer: Any


class Prediction(NamedTuple):
    """`points` (N, 3) float32 in the unit sphere, head frame; `crops` the faces it was made from (of a stream, the last
    one); `places` (256, 2) float32, where a 16x16 grid of the face lies in the last crop, in its sides, None where the
    network does not say; `coat` the colours of an ordered prediction, which a stream's next photo adds to; `in_photo`
    (N, 3) float32 the face with the last photo's expression, unit sphere, and `landmarks` (68, 2) float32 in the last
    crop, in its sides: None where the network does not say."""

    points: np.ndarray
    crops: list[Crop]
    places: np.ndarray | None = None
    coat: Colours | None = None
    in_photo: np.ndarray | None = None
    landmarks: np.ndarray | None = None


def crop_faces(picture: Picture, size: int, *, box: Box | None = None, every_face: bool = False, margin: float = 1.0,
               guess: bool = False) -> list[Crop]:
    """The largest face (or every face, largest first) of a picture as (size, size, 3) crops; [] when none is found.

    `box` takes the place of the detector. Either is grown by `margin` before it is cut, as the network was trained.
    `guess`, for a network that can tell: where the detector's surest stages find none, the first of the places where
    one might be.
    ValueError when the box does not lie on the picture.
    """
    name, image = picture
    if box is not None:
        return [_cut(image, grown(_square(box, picture), margin), size, name, "by hand")]
    found = find(image, every_face, quick=guess)
    if every_face and found:
        return [_cut(image, grown(one.box, margin), size, name, one.pass_name) for one in found]

    def crops() -> Iterator[Crop]:
        return (_cut(image, place.box, size, name, place.name) for place in candidates(image, found, margin))
    return [next(crops())._replace(others=lambda: islice(crops(), 1, None))] if found or guess else []


def _square(box: Box, picture: Picture) -> Box:
    """A square about the same centre: the network never saw a squeezed face. ValueError as `crop_faces`."""
    x, y, w, h = box
    height, width = picture.image.shape[:2]
    if not (1 <= w <= 2 * width and 1 <= h <= 2 * height and -w < x < width and -h < y < height):
        raise ValueError(f"{picture.name}: box {x},{y},{w},{h} does not lie on the picture of {width}x{height} pixels")
    side = max(w, h)
    return x - (side - w) // 2, y - (side - h) // 2, side, side


def crops_for(loaded: Loaded, picture: Picture, *, box: Box | None = None, every_face: bool = False) -> list[Crop]:
    """`crop_faces` as a model wants them."""
    config = loaded.config
    return crop_faces(picture, loaded.image_size, box=box, every_face=every_face,
                      margin=config.get("model", {}).get("crop_margin", 1.0), guess=config.get("network") in JUDGES)


def surest(crop: Crop, look: Callable[[Crop], Look]) -> Look:
    """The first look, at a crop or at its picture's other places, at what the network takes for a face: in most photos
    the only one. Where it doubts all of them the least doubtful; where none is a face, that at the crop, if it is sure.

    look  may raise NoFace. NoFace where nothing comes of it.
    """
    first = best = None
    error = NoFace(f"{crop.source}: no face: the network sees none")
    for candidate in chain((crop,), crop.others() if crop.others else ()):
        try:
            seen = look(candidate)
        except NoFace as missing:
            error = missing if candidate is crop else error
            continue
        if seen.doubt <= 0:
            return seen
        first = seen if candidate is crop else first
        best = seen if best is None or seen.doubt < best.doubt else best
    if best is not None and best.doubt < 1:
        return best
    if first is None or not crop.sure:
        raise error
    return first


def _cut(image: np.ndarray, box: Box, size: int, name: str, pass_name: str) -> Crop:
    photo = crop_resize(image, box, min(max(box[2:]), LOOK), "area")
    return Crop(crop_resize(image, box, size, "area"), photo, box, name, pass_name, image,
                sure=pass_name in (*SURE_PASSES, "by hand"))


def cut_again(crop: Crop, places: np.ndarray) -> Crop | None:
    """A crop in which the face lies as in most of the training; None where it does already, or the picture is gone.

    places (K, 2): where the network sees the face, in the crop's sides. The profile cascade above all cuts badly. A
    crop moves by no more than half its side and changes by no more than half or twice, however wrong the places are.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    centre, extent = (low + high) / 2, float((high - low).max())
    if crop.whole is None or (EXTENTS[0] <= extent <= EXTENTS[1] and np.abs(centre - 0.5).max() <= OFF_CENTRE):
        return None
    x, y, w, h = crop.box
    side = max(16, round(max(w, h) * float(np.clip(extent / EXTENT, 0.5, 2.0))))
    middle = np.array([x, y]) + np.clip(centre, 0.0, 1.0) * (w, h)
    height, width = crop.whole.shape[:2]
    if not (0 <= middle[0] < width and 0 <= middle[1] < height):
        return None
    box = (round(middle[0] - side / 2), round(middle[1] - side / 2), side, side)
    return _cut(crop.whole, box, len(crop.image), crop.source, crop.pass_name)


def faces_of(source: Iterable[Picture], loaded: Loaded, *, box: Box | None = None, every_face: bool = False
             ) -> Iterator[list[Crop]]:
    """The faces of each picture, cut for a model, one picture in memory at a time; every_face: of one picture only.

    A picture without a face is left out with a warning, but not where the model itself can tell: its stream then says
    NoFace. ValueError when none has a face, or when every face is wanted of several pictures, since nobody says who is
    who across them.
    """
    empty, given = [], 0
    for number, picture in enumerate(source):
        if every_face and number:
            raise ValueError("--faces all takes one picture, since nobody says who is who across several")
        crops = crops_for(loaded, picture, box=box, every_face=every_face)
        if crops:
            given += 1
            yield crops
        else:
            empty.append(picture.name)
    if given:           # else the error below says it
        for name in empty:
            log.warning("%s: no face found; skipped", name)
    else:
        named = ", ".join(empty[:3]) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
        raise ValueError(f"{named}: no face found; try a larger or sharper photo, or give --box x,y,w,h")


def network_input(crops: Sequence[Crop]) -> np.ndarray:
    """(1, T, S, S, 3) float32 BGR, each image stretched to [0, 1] as in the thesis (listing B-3)."""
    if not crops:
        raise ValueError("at least one face is needed, got none")
    return np.stack([minmax(c.image) for c in crops])[None]


def face_mesh(prediction: Prediction, ordered: bool) -> Mesh:
    """A prediction as a mesh with the grid's triangles and its colours; an unordered one is a cloud without either."""
    points = prediction.points.astype(np.float64)
    if not ordered:
        return Mesh(points)
    side, coat = round(len(points) ** 0.5), prediction.coat
    return Mesh(points, grid_triangles(side), grid_uv(side), colours=None if coat is None else coat.rgb())


def view(points: np.ndarray, crop: Crop, places: np.ndarray | None) -> View | None:
    """How a crop sees an ordered prediction; None where nothing tells: no places, and not seen from the front."""
    if places is not None:
        return view_of(points, places)
    return frontal_view(points) if crop.pass_name in FRONTAL else None


def reconstruct(loaded: Loaded, crops: Sequence[Crop]) -> Prediction:
    """One face from all crops. A model with a fixed number of images T gets the crops repeated up to T, or the first
    T of them. ValueError when there is none, or when the prediction is not finite."""
    crops = list(crops)
    if loaded.images and crops and len(crops) != loaded.images:
        crops = (crops * loaded.images)[:loaded.images]
    points = loaded.predict(network_input(crops))[0]
    if not np.isfinite(points).all():
        raise ValueError(f"{loaded.source}: predicts points that are not finite")
    if loaded.order != "grid":
        return Prediction(points, crops)
    colours = Colours(len(points))
    for crop in crops:
        seen = view(points, crop, None)
        if seen is not None:
            colours.add(crop.photo, seen)
    return Prediction(points, crops, None, colours)
