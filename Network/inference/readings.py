"""What a network says of each pixel of a crop, under one name each: what the views and surfaces of demo.py take."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.geometry.camera import Camera


class UVReading(NamedTuple):
    """uv (S, S, 2) float32 in [0, 1], NaN off the face; mask (S, S) bool: the pixel shows the face, whatever stands
    before it; visible_mask (S, S) bool: mask, and nothing stands before it."""

    uv: np.ndarray
    mask: np.ndarray
    visible_mask: np.ndarray


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
