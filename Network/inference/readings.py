"""Networks' outputs as named arrays, and dense predictions of a crop: the input of the views and surfaces of demo.py.
numpy only."""
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


class Maps(NamedTuple):
    """The output for one image, at the size of the network's input."""

    uv: np.ndarray                      # (S, S, 2) float32, coordinates in the atlas; NaN where mask is False
    mask: np.ndarray                    # (S, S) bool: the face, whatever stands in front of it
    visible_mask: np.ndarray                # (S, S) bool: the face where nothing stands in front of it
    log_variance: np.ndarray | None     # (S, S, 2) float32 of u and v; NaN where mask is False; None without
    depth: np.ndarray | None = None     # (S, S) float32 as that module's `build` says, at most 1; likewise


def read_maps(output: np.ndarray, threshold: float = 0.5) -> Maps:
    """One sample (S, S, 4 to 7) of `Network.models.uvnet.build`'s output as masks and numbers; a photo without a face
    gives an empty mask.

    threshold   mask values above it are the face. ValueError for another shape. NaN or infinite outputs are no face.
    """
    output = np.asarray(output, np.float32)
    if output.ndim != 3 or output.shape[-1] not in (4, 5, 6, 7):
        raise ValueError(f"maps must have shape (S, S, 4) or (S, S, 5 to 7), got {output.shape}")
    mask = (output[..., 2] > threshold) & np.isfinite(output).all(-1)

    def inside(values: np.ndarray) -> np.ndarray:
        return np.where(mask[..., None], values, np.float32(np.nan))
    channels = output.shape[-1]
    return Maps(inside(np.clip(output[..., :2], 0, 1)), mask, mask & (output[..., 3] > threshold),
                inside(output[..., -2:]) if channels >= 6 else None,
                inside(np.minimum(output[..., 4:5], 1))[..., 0] if channels % 2 else None)


def read_landmarks(heat_maps: np.ndarray) -> np.ndarray:
    """Heat maps (..., h, h, 68) -> landmarks (..., 68, 2) float32 in normalised coordinates of the crop: the mean of
    the 3x3 cells about each map's highest one, weighted by their values above 0. A map without any is NaN."""
    maps = np.maximum(np.nan_to_num(np.asarray(heat_maps, np.float32)), 0)
    flat = np.moveaxis(maps, -1, -3).reshape(-1, *maps.shape[-3:-1])
    side, found = flat.shape[1], np.full((len(flat), 2), np.nan, np.float32)
    for i, one in enumerate(flat):
        row, column = np.unravel_index(one.argmax(), one.shape)
        if one[row, column] > 0:
            rows, columns = (np.arange(max(at - 1, 0), min(at + 2, side)) for at in (row, column))
            near = one[np.ix_(rows, columns)]
            found[i] = (near.sum(0) @ (columns + 0.5), near.sum(1) @ (rows + 0.5)) / near.sum() / side
    return found.reshape(*maps.shape[:-3], maps.shape[-1], 2)
