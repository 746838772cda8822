"""Dense predictions of a crop by name: the input of the views and surfaces of demo.py."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.geometry.camera import Camera


class UVReading(NamedTuple):
    """uv (S, S, 2) float32 in [0, 1], NaN off the face; mask (S, S) bool: the face covers the pixel, occluded or
    not; occluded (S, S) bool, the paper's name: mask, and the face is visible."""

    uv: np.ndarray
    mask: np.ndarray
    occluded: np.ndarray


class DepthReading(NamedTuple):
    """depth (S, S) float32 mm along the view, NaN for none; its camera; the crop (S, S, 3) uint8 BGR."""

    depth: np.ndarray
    camera: Camera
    image: np.ndarray


class Rendering(NamedTuple):
    """A face rendered in its pose over a crop of S px.

    pncc, normals  (S, S, 3) float32 in [0, 1], 0 off the head: as the input of `coarse` (docs/conventions.md)
    """

    uv: UVReading
    depth: DepthReading
    pncc: np.ndarray
    normals: np.ndarray
