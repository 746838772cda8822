"""A loaded network -> the 68 landmarks in a photo, in pixels: what `evaluate.py --aflw2000` judges."""
from __future__ import annotations

from typing import Callable

import numpy as np

from Dataset.images import Box
from Dataset.pose import weak_perspective
from Dataset.representations.points import grid_landmarks
from Dataset.sources import Picture
from Network.in_photo import place_landmarks
from Network.loading import Loaded
from Network.predict import NoFace, Prediction, crops_for
from Network.streaming import make_stream


def make_landmarker(loaded: Loaded) -> Callable[[np.ndarray, Box | None], np.ndarray | None]:
    """A photo (H, W, 3) uint8 BGR and a box in it, None for the detector's -> landmarks (68, 3) float64: x, y in pixels
    and z in pixels towards the camera, from wherever; None where no face is found. The way of demo.py, the second cut
    included. ValueError for a network that does not say where the face lies."""
    stream = make_stream(loaded)

    def find(image: np.ndarray, box: Box | None = None) -> np.ndarray | None:
        try:
            crops = crops_for(loaded, Picture("photo", image), box=box)
            if not crops:
                return None
            return landmarks_of(stream.add(crops[0]), str(loaded.source))
        except NoFace:
            return None
        finally:
            stream.reset()
    return find


def landmarks_of(face: Prediction, name: str = "model") -> np.ndarray:
    """The landmarks (68, 3) px of a stream's answer to its first photo. Their depth is that of the face's own ones,
    turned and scaled as they lie in the photo; all NaN where any is not finite. ValueError where it does not say where
    they lie."""
    points = face.points if face.in_photo is None else face.in_photo
    places = face.landmarks
    if places is None and face.places is not None:
        places = place_landmarks(points, face.places)
    if places is None:
        raise ValueError(f"{name}: does not say where in a photo the face lies, so it has no landmarks there")
    x, y, width, height = face.crops[-1].box
    pixels = np.asarray(places, np.float64) * (width, height) + (x, y)
    solid = grid_landmarks(points)
    if not (np.isfinite(pixels).all() and np.isfinite(solid).all()):
        return np.full((len(pixels), 3), np.nan)
    pose = weak_perspective(solid, pixels)
    return np.column_stack([pixels, pose.scale * solid @ pose.rotation[2]])
