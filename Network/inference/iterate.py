"""The coarse network run again and again (Endrawis 2018, 2.4.2): the current estimate is rendered, the network sees it
beside the image, cropped where the estimate lies, and makes a better one, "about 3-5 iterations"; over a video once a
frame, from the last frame's face (3.2).
"""
from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple

import numpy as np

from Dataset.io.images import Box, crop_resample, minmax
from Dataset.representations.coefficients import (COUNT, EXPRESSION, POSE, crop_at, difference, mean_face, project,
                                                  recropped)
from Dataset.representations.pncc import CHANNELS, RenderingUnit, built_in_unit

WHOLE = (0.0, 0.0, 1.0, 1.0)    # the box of the image that is given, in its sides
#: network inputs (B, S, S, 9) float32, or (B, S, S, 3) without feedback -> coefficients (B, 290)
Predict = Callable[[np.ndarray], Any]


class NoAnswer(ValueError):
    """The network's output is not finite."""


class Iterations(NamedTuple):
    """faces (n + 1, 290) float32, the start and what each pass gave; changes (n,) float64: how far each moved the face
    in the crop, RMS in its sides; converged: whether the last one moved it by less than the tolerance."""

    faces: np.ndarray
    changes: np.ndarray
    converged: bool

    @property
    def face(self) -> np.ndarray:
        """(290,) float32, the last."""
        return self.faces[-1]


class Iterated:
    """The network with its rendering unit.

    predict     (B, S, S, 9) -> (B, 290), in the crop that it is given
    size        S, px
    iterations  at most so many passes; tolerance: sides of the crop, a smaller change ends them
    feedback    False: a network that sees the image alone, uncropped; its passes are all the same, one is made
    ValueError for a number below 1. `rendering`: seconds that renderings have taken so far.
    """

    def __init__(self, predict: Predict, size: int, iterations: int = 4, tolerance: float = 0.002,
                 unit: RenderingUnit | None = None, feedback: bool = True) -> None:
        if iterations < 1 or size < 1 or not tolerance >= 0:
            raise ValueError(f"iterations and size must be at least 1 and tolerance at least 0, got {iterations}, "
                             f"{size} and {tolerance}")
        self.size, self.iterations, self.tolerance = size, iterations if feedback else 1, tolerance
        self.predict, self.unit, self.rendering = predict, unit or built_in_unit(), 0.0
        self.feedback = feedback

    def boxes(self, estimates: np.ndarray) -> list[Box]:
        """Where the image is cropped for estimates (B, 290): squares in its sides."""
        return [crop_at(estimate) if self.feedback else WHOLE for estimate in estimates]

    def inputs(self, images: np.ndarray, estimates: np.ndarray) -> np.ndarray:
        """Images (B, P, P, 3) float32 in [0, 1] and estimates (B, 290) of the face in them -> (B, S, S, 9), or (B, S,
        S, 3) without feedback, float32. ValueError for other shapes."""
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape != (len(estimates), images.shape[1], images.shape[1], 3):
            raise ValueError(f"images must be ({len(estimates)}, P, P, 3), got {images.shape}")
        boxes, side = self.boxes(estimates), images.shape[1]
        out = np.empty((len(images), self.size, self.size, 3 + CHANNELS * self.feedback), np.float32)
        for row, image, box in zip(out, images, boxes):
            row[..., :3] = minmax(crop_resample(image, side * np.array(box), self.size))
        if self.feedback:
            started = time.perf_counter()
            placed = np.stack([recropped(estimate, WHOLE, box) for estimate, box in zip(estimates, boxes)])
            self.unit.many(placed, self.size, out=out[..., 3:])
            self.rendering += time.perf_counter() - started
        return out

    def once(self, images: np.ndarray, estimates: np.ndarray, poses: np.ndarray | None = None) -> np.ndarray:
        """One pass over B images -> (B, 290) float32 in the frame of these images, expression weights within [0, 1];
        poses (B, 6): kept fixed there. NoAnswer where an output is not finite, ValueError where it is no coarse
        network."""
        found = np.array(self.predict(self.inputs(images, estimates)), np.float32)
        if found.shape != (len(images), COUNT):
            raise ValueError(f"the network must give finite ({len(images)}, {COUNT}), gave {found.shape}")
        if not np.isfinite(found).all():
            raise NoAnswer(f"the network must give finite ({len(images)}, {COUNT}), gave some with NaN or infinity")
        found[:, EXPRESSION] = np.clip(found[:, EXPRESSION], 0, 1)
        found = np.stack([recropped(face, box, WHOLE) for face, box in zip(found, self.boxes(estimates))])
        if poses is not None:
            found[:, POSE] = poses
        return found

    def run(self, image: np.ndarray, start: np.ndarray | None = None, pose: np.ndarray | None = None) -> Iterations:
        """One image (P, P, 3) float32 in [0, 1]. start (290,): the mean face where a detector puts it, if None; pose
        (6,): held there all the time."""
        faces = [mean_face(pose) if start is None else np.asarray(start, np.float32)]
        changes: list[float] = []
        while len(changes) < self.iterations and not (changes and changes[-1] < self.tolerance):
            faces.append(self.once(image[None], faces[-1][None], None if pose is None else pose[None])[0])
            changes.append(difference(faces[-2], faces[-1], self.unit.model))
        return Iterations(np.stack(faces), np.array(changes), changes[-1] < self.tolerance)

    def many(self, images: np.ndarray, passes: int | None = None, poses: np.ndarray | None = None) -> np.ndarray:
        """B images at once, none ends early: (passes + 1, B, 290) float32, the start first; poses (B, 6) are held."""
        faces = [np.stack([mean_face(None if poses is None else poses[i]) for i in range(len(images))])]
        for _ in range(self.iterations if passes is None else passes):
            faces.append(self.once(images, faces[-1], poses))
        return np.stack(faces)


class Frame(NamedTuple):
    """A face in a frame: coefficients (290,) float32 in the crop; box of the crop in the frame; keypoints (256, 2) and
    landmarks (68, 2) float64, sides of the crop; change: how far it moved since the last, in sides (inf at first)."""

    coefficients: np.ndarray
    box: Box
    keypoints: np.ndarray
    landmarks: np.ndarray
    change: float


class FrameByFrame:
    """Video: one pass a frame, from the last frame's face; a new track begins with the whole iteration.

    follow(image (P, P, 3) float32 in [0, 1], box in the frame, last) -> Frame; last: the same track's last Frame or
    None. Holds nothing itself, so that one serves any number of tracks.
    """

    def __init__(self, iterated: Iterated) -> None:
        self.iterated = iterated

    def follow(self, image: np.ndarray, box: Box, last: Frame | None = None) -> Frame:
        model = self.iterated.unit.model
        if last is None:
            face, change = self.iterated.run(image).face, np.inf
        else:
            estimate = recropped(last.coefficients, last.box, box)
            face = self.iterated.once(image[None], estimate[None])[0]
            change = difference(estimate, face, model)
        return Frame(face, box, project(face, model=model), project(face, "landmarks", model=model), float(change))
