"""Photos with 68 landmarks in three dimensions: folders of 300W-LP and AFLW2000-3D (Zhu et al. 2016, "Face Alignment
Across Large Poses: A 3D Solution"), for evaluation.

A photo NAME.jpg has NAME.mat beside it: `pt3d_68` (3, 68), x to the right and y down in the photo's pixels, z towards
the camera in the same unit with an arbitrary origin; `Pose_Para` (1, 7): pitch, yaw, roll in radians, shift x, y, z in
pixels, scale. The files are MATLAB's: the middle of the first pixel is (1, 1) there, (0.5, 0.5) here. 300W-LP has
`pt2d` (2, 68) instead, without depth.
"""
from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.io.images import COMPANION, read_image
from Dataset.io.mat_files import mat_shapes, read_mat

log = logging.getLogger(__name__)
COUNT = 68
MAX_BYTES = 1 << 24         # of a .mat file; the published ones have 20 to 400 kB
MAX_PHOTOS = 200_000        # 300W-LP has 122,450
FIRST_PIXEL = 0.5           # offset between MATLAB's pixel coordinates and ours
_NAMES = ("pt3d_68", "pt2d", "Pose_Para")


class Photo(NamedTuple):
    """path of the photo; landmarks (68, 3) float64, Multi-PIE order: x, y in pixels as in docs/conventions.md, z in
    pixels towards the camera with an arbitrary origin, NaN where the file has none; pitch, yaw, roll in degrees, with
    the file's signs."""

    path: Path
    landmarks: np.ndarray
    pitch: float
    yaw: float
    roll: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box x, y, w, h of the landmarks, px, by whose size published errors are normalised."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR. ValueError as `Dataset.io.images.read_image`."""
        return read_image(self.path)


def read_photos(folder: str | Path) -> list[Photo]:
    """Every photo of a folder and those in it that has a .mat beside it, by name; pixels are not read yet. How many
    have none is logged. ValueError, naming file and rule, when there is none at all, or for a .mat that is no such
    file."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*")
                   if path.suffix.lower() == ".jpg" and not path.name.startswith(COMPANION))
    if len(paths) > MAX_PHOTOS:
        raise ValueError(f"{folder}: at most {MAX_PHOTOS} photos, this has {len(paths)}")
    known = [path for path in paths if path.with_suffix(".mat").is_file()]
    if not known:
        raise ValueError(f"{folder}: holds no photo NAME.jpg with its landmarks NAME.mat (300W-LP, AFLW2000-3D)")
    if len(known) < len(paths):
        log.warning("%s: %d of %d photos have no .mat; left out", folder, len(paths) - len(known), len(paths))
    return [read_photo(path) for path in known]


def read_photo(path: Path) -> Photo:
    """NAME.jpg, whose landmarks are in NAME.mat. ValueError, naming the .mat and the rule."""
    file = path.with_suffix(".mat")
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file}: a landmark file has at most {MAX_BYTES} bytes, this has {file.stat().st_size}")
    try:
        shapes = {name: shape for name, shape in mat_shapes(file, 4 * MAX_BYTES).items() if name in _NAMES}
        if any(np.prod(shape, dtype=float) > 1e6 for shape in shapes.values()):
            raise ValueError("arrays that large are no landmarks")
        found = read_mat(file, _NAMES)
    except (ValueError, OSError, NotImplementedError, TypeError, KeyError, IndexError, EOFError, MemoryError,
            RuntimeError, zlib.error) as error:
        raise ValueError(f"{file}: no MATLAB file that can be read "
                         f"({' '.join(str(error).split())[:100] or type(error).__name__})") from None
    marks = found.get("pt3d_68", found.get("pt2d"))
    angles = found.get("Pose_Para")
    if marks is None or marks.shape not in ((3, COUNT), (2, COUNT)) or marks.dtype.kind not in "fiu":
        raise ValueError(f"{file}: must hold pt3d_68 (3, {COUNT}) or pt2d (2, {COUNT}), "
                         f"received {None if marks is None else marks.shape}")
    if angles is None or angles.size != 7 or angles.dtype.kind not in "fiu":
        raise ValueError(f"{file}: must hold Pose_Para (1, 7), received {None if angles is None else angles.shape}")
    positions, angles = np.full((COUNT, 3), np.nan), np.asarray(angles, np.float64).ravel()
    positions[:, :len(marks)] = marks.T
    positions[:, :2] -= FIRST_PIXEL
    if not np.isfinite(positions[:, :len(marks)]).all() or not np.isfinite(angles).all():
        raise ValueError(f"{file}: landmarks and pose must be finite, received NaN or infinity")
    if not np.ptp(positions[:, :2], axis=0).all():
        raise ValueError(f"{file}: landmarks must not lie on one line")
    return Photo(path, positions, *(float(angle) for angle in np.degrees(angles[:3])))
