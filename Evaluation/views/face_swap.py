"""One photo's face in another photo, by their UV maps (Ronkainen 2017, 4.5.1: named as future work, not tried there).

The first photo's face is laid out in the UV square (inverse texture projection, 3.8.2), what it does not show is taken
from its other half, its colours are brought to those of the second photo's face, and it is drawn where the second photo
shows the same UV (texture projection, 3.8.1) and nothing stands before them. Shape, pose and expression stay the
second photo's: only the surface is another's.
"""
from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from Dataset.rendering.texture import push_pull
from Evaluation.views.uv import Unprojected, project_texture, unproject

COLOURS = ("lab", "none")
BLENDS = ("feather", "poisson")
SIZE = 256              # texels a side; a map of 128 px knows no more
_SHOWN = 0.05           # pixels on a texel from which on it is shown
_GAP = 5                # texels: what lies between pixels
_FEW = 64               # texels in common: with fewer each face is described by all of its own
_SOFT = 1 / 24          # of the UV square's side: width of the seam between what is seen and what is mirrored
_FEATHER = 1 / 20       # of the face's height in the photo: width of its soft boundary


class Face(NamedTuple):
    """photo (H, W, 3) uint8 BGR; uv (H, W, 2) float32, what a pixel shows of the UV square, NaN off the face;
    where (H, W) bool, the pixels of the face before which nothing stands, None: all of it."""

    photo: np.ndarray
    uv: np.ndarray
    where: np.ndarray | None = None


def swap_face(source: Face, target: Face, size: int = SIZE, colours: str = "lab", blend: str = "feather"
              ) -> np.ndarray:
    """The target's photo with the source's face, (H, W, 3) uint8 BGR; off the target's visible face it is unchanged.

    colours  lab: mean and standard deviation of L, a and b of the target's face, over the UV that both photos show
             (Reinhard et al. 2001, in CIE Lab); none: the source's own
    blend    feather: a soft boundary inwards; poisson: the target's light continues across the boundary (Perez et al.
             2003), and the face's own level is lost
    ValueError for a photo without a face, an unknown choice, and shapes that disagree.
    """
    for name, value, allowed in (("colours", colours, COLOURS), ("blend", blend, BLENDS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    theirs, own = (unproject(face.photo, face.uv, size, face.where) for face in (source, target))
    for name, texture in (("first", theirs), ("second", own)):
        if not texture.weights.any():
            raise ValueError(f"no face in the {name} photo: there is nothing to swap")
    texture = completed(theirs)
    if colours == "lab":
        texture = matched(texture, theirs, own)
    painted = project_texture(target.photo, target.uv, texture, target.where)
    shown = np.isfinite(target.uv).all(-1) & (True if target.where is None else target.where)
    return (_feathered if blend == "feather" else _poisson)(target.photo, painted, shown)


def completed(seen: Unprojected) -> np.ndarray:
    """The texture (n, n, 3) uint8 without gaps: what the photo does not show is the other half's mirror image (u ->
    1 - u: the UV square is symmetric), and what neither half shows goes on smoothly."""
    known = seen.weights > _SHOWN
    closed = cv2.morphologyEx(known.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8)) > 0
    colours = push_pull(seen.texture.astype(np.float32), known.astype(np.float32))
    boundary = np.pad(closed, 1, constant_values=True)       # the UV square's border is no seam
    far = cv2.distanceTransform(boundary.astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    weight = np.clip(far / np.clip(far[:, ::-1], 1e-6, _SOFT * len(known)), 0, 1)    # a soft seam to a better half
    weight = np.where(closed[:, ::-1], weight, closed)
    known = (closed | closed[:, ::-1]).astype(np.float32)
    mixed = (colours * weight[..., None] + colours[:, ::-1] * (1 - weight[..., None])).astype(np.float32)
    return np.rint(np.clip(push_pull(mixed, known), 0, 255)).astype(np.uint8)


def matched(texture: np.ndarray, theirs: Unprojected, own: Unprojected) -> np.ndarray:
    """A texture (n, n, 3) uint8 with the mean and standard deviation of `own` in CIE Lab, both over the texels that
    `theirs` and `own` show."""
    both = (theirs.weights > _SHOWN) & (own.weights > _SHOWN)
    few = both.sum() < _FEW
    one, other = ((seen.texture[seen.weights > _SHOWN] if few else seen.texture[both]) for seen in (theirs, own))
    (mean, sigma), (wanted, wide) = ((lab.mean(0), lab.std(0)) for lab in (_lab(one), _lab(other)))
    factor = np.clip(wide / np.maximum(sigma, 1e-3), 0.25, 4)
    lab = (_lab(texture.reshape(-1, 3)) - mean) * factor + wanted
    colours = cv2.cvtColor(lab.reshape(texture.shape).astype(np.float32), cv2.COLOR_LAB2BGR)
    return np.rint(np.clip(255 * colours, 0, 255)).astype(np.uint8)


def _lab(colours: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 BGR -> (N, 3) float32 CIE Lab."""
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]


def _feathered(photo: np.ndarray, painted: np.ndarray, shown: np.ndarray) -> np.ndarray:
    inside = shown.astype(np.uint8)
    width = max(1.0, _FEATHER * cv2.boundingRect(inside)[3])
    if shown.all():         # no boundary to measure from
        return painted
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    alpha = np.clip(away / width, 0, 1)[..., None]
    return np.rint(photo + alpha * (painted.astype(np.float32) - photo)).astype(np.uint8)


def _poisson(photo: np.ndarray, painted: np.ndarray, shown: np.ndarray) -> np.ndarray:
    boundary = 4                 # OpenCV solves within the mask's box, and needs pixels around it
    sides = [boundary] * 4
    wide, face = (cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE) for image in (photo, painted))
    mask = cv2.copyMakeBorder(255 * shown.astype(np.uint8), *sides, cv2.BORDER_CONSTANT)
    x, y, w, h = cv2.boundingRect(mask)
    mixed = cv2.seamlessClone(face, wide, mask, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)
    return np.where(shown[..., None], mixed[boundary:-boundary, boundary:-boundary], photo)
