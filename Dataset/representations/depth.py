"""Representation `depth`: the depth of the face at each pixel, along the optical axis (target of `pix2pix`).

A depth map is (H, W) float32, millimetres along the optical axis at pixel centres (`Dataset/geometry/camera.py`); NaN
is "no depth", never 0. Points are in the camera's world (the posed head frame: +y up, +z to the camera), row by row.

A network cannot predict the absolute distance from a crop. It predicts (`encode_depth`) the depth relative to the
nearest point of the face, normalised by a range:

    value = 1 - 2 (depth - near) / (far - near)     +1 at the nearest point, -1 at `far` and where there is no depth

near is the smallest depth of the map. far - near is the length of one side of the crop at depth near if the focal
length is known: the values then do not change with distance or enlargement, and decoded points are correct up to a
similarity, which all metrics here remove. Otherwise it is RANGE mm. The convention is that of the Texas 3D range images
(8 bits, 255 nearest, 0 no face). Lost are the distance, and with it the true size and the perspective.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.errors import NotFittable
from Dataset.geometry.camera import Camera, look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.sampling import sample
from Dataset.rendering.raycast import Scene

RANGE = 200.0           # mm: about the width of a crop of a face
DISTANCE = 800.0        # mm: assumed distance of an unknown camera
BACKGROUND = -1.0       # the value of "no depth"
THRESHOLD = -0.9        # values below are no depth: the background is predicted near -1, a face far above
LEVELS = 255            # of an 8-bit image; 0 is no depth
LARGE = 0.1             # of the largest part's pixels: smaller parts are removed
STEEPEST = 80.0         # degrees between a triangle and the image plane: steeper triangles are depth discontinuities


class DepthRange(NamedTuple):
    """Depths (mm) of the values +1 and -1."""
    near: float
    far: float


def encode(surface: Mesh | Scene, camera: Camera) -> np.ndarray:
    """The depth map of a mesh in the camera's world: (height, width) float32 mm, NaN where nothing is hit."""
    scene = surface if isinstance(surface, Scene) else Scene(surface.vertices, surface.triangles)
    return scene.cast(camera).depth.astype(np.float32)


def decode(depth: np.ndarray, camera: Camera, image: np.ndarray | None = None) -> Mesh:
    """The cloud of a depth map, without triangles: one vertex (camera's world, mm) per pixel that has a depth, row by
    row; of an image (H, W, 3) uint8 BGR it takes its colours (RGB). Empty where no pixel has one. ValueError for a map
    or image that is not the camera's size, and for a depth that is not positive."""
    depth = _checked(depth)
    points = camera.unproject(depth)
    seen = np.isfinite(depth)
    return Mesh(points[seen], colours=None if image is None else _colours(image, depth.shape)[seen])


def triangulate(depth: np.ndarray, camera: Camera, image: np.ndarray | None = None, steepest: float = STEEPEST,
                every: int = 1) -> Mesh:
    """The surface of a depth map: `decode`'s vertices, two triangles for each four neighbouring pixels.

    every  n: only each n-th row and column is used (for wireframes that can be seen)

    Left out are triangles with a corner without depth, and those steeper than `steepest` degrees: neighbours differ in
    depth by more than tan(steepest) times the pixel's size there, which is a discontinuity. Unused vertices are kept.
    """
    thin = np.full(np.shape(depth), np.nan)
    thin[::every, ::every] = np.asarray(depth)[::every, ::every]
    cloud, seen = decode(thin, camera, image), np.isfinite(thin)
    number = np.full(thin.shape, -1, np.int64)
    number[seen] = np.arange(np.count_nonzero(seen))
    number = number[::every, ::every]
    one, below, across, right = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    triangles = np.stack([one, below, across, one, across, right], -1).reshape(-1, 3)
    triangles = triangles[(triangles >= 0).all(1)]
    depths = thin[seen][triangles]
    nearest = depths.min(1)
    whole = depths.max(1) - nearest <= np.tan(np.radians(steepest)) * every * nearest / camera.focal
    return cloud._replace(triangles=triangles[whole])


def surface_points(depth: np.ndarray, camera: Camera, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 3) float64 mm, uniform by area on the surface of a depth map, for the metrics of clouds: the
    pixels themselves are denser in the middle of a face than at its sides. ValueError "no depth" for an empty map."""
    mesh = triangulate(depth, camera)
    if not len(mesh.triangles):
        raise NotFittable("no depth: the map has no surface to take points from")
    return sample(mesh, count, rng).points


def depth_range(depth: np.ndarray, focal: float | None = None) -> DepthRange:
    """The range of a depth map (S, S) mm, NaN for none: from its smallest depth over one side of the crop there
    (focal: pixels), or over RANGE mm. Of a map without any depth: (DISTANCE, DISTANCE + RANGE)."""
    depth = np.asarray(depth)
    if focal is not None and not focal > 0:
        raise ValueError(f"depth: a focal length is positive, received {focal}")
    if not np.isfinite(depth).any():
        return DepthRange(DISTANCE, DISTANCE + RANGE)
    near = float(np.nanmin(np.where(np.isfinite(depth), depth, np.nan)))
    return DepthRange(near, near + (RANGE if focal is None else near * depth.shape[1] / focal))


def encode_depth(depth: np.ndarray, mask: np.ndarray | None = None, focal: float | None = None) -> np.ndarray:
    """A depth map as the network predicts it: (S, S) float32 mm, NaN for none -> (S, S, 1) float32 in [-1, 1].

    mask   (S, S) bool: the face; pixels outside have no depth. None: all pixels with a depth
    focal  of the camera, px: the range is then one side of the crop; None: RANGE mm

    The nearest point of the face is +1, no depth is -1. Depths beyond the range are clipped to the smallest value above
    -1 that 8 bits hold, so that they differ from no depth. All -1 where there is no face. ValueError for wrong shapes
    and a depth that is not positive.
    """
    depth = _checked(depth)
    if mask is not None:
        if np.shape(mask) != depth.shape:
            raise ValueError(f"depth: a mask has the map's shape {depth.shape}, received {np.shape(mask)}")
        depth = np.where(mask, depth, np.nan)
    near, far = depth_range(depth, focal)
    values = np.clip(1 - 2 * (depth - near) / (far - near), -1 + 2 / LEVELS, 1)
    return np.where(np.isfinite(depth), values, BACKGROUND).astype(np.float32)[..., None]


def decode_depth(values: np.ndarray, limits: DepthRange = DepthRange(DISTANCE, DISTANCE + RANGE),
                 threshold: float = THRESHOLD) -> np.ndarray:
    """The inverse of `encode_depth`: (S, S) or (S, S, 1) values in [-1, 1] -> (S, S) float32 mm.

    limits     `depth_range` of the encoded map restores its depths. For a photo the range is unknown: with the default
               depths are correct up to an offset (near) and a scale (far - near)
    threshold  values below it have no depth (NaN); NaN stays NaN
    """
    values = np.asarray(values, np.float32)
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim != 2:
        raise ValueError(f"depth: values are (S, S) or (S, S, 1), received {values.shape}")
    near, far = limits
    if not far > near > 0:
        raise ValueError(f"depth: a range has 0 < near < far, received {near:g} to {far:g}")
    depth = near + (1 - values.astype(np.float64)) / 2 * (far - near)
    return np.where(values >= threshold, depth, np.nan).astype(np.float32)


def large_parts(depth: np.ndarray) -> np.ndarray:
    """A depth map (H, W) with its connected parts of at least LARGE of the largest one's pixels, NaN elsewhere. Glasses
    can split a face in two; smaller parts are false predictions, which would distort a fit and a surface."""
    from scipy import ndimage       # takes long to import
    parts, count = ndimage.label(np.isfinite(depth))
    if count < 2:
        return depth
    pixels = np.bincount(parts.ravel())
    pixels[0] = 0
    return np.where((pixels >= max(1, LARGE * pixels.max()))[parts], depth, np.float32(np.nan))


def to_image(values: np.ndarray) -> np.ndarray:
    """Values (S, S) or (S, S, 1) in [-1, 1] as an 8-bit image (S, S): 255 nearest, 0 no depth; rounded to half a level.
    """
    values = np.asarray(values, np.float64).reshape(np.shape(values)[:2])
    return np.rint((np.clip(np.nan_to_num(values, nan=BACKGROUND), -1, 1) + 1) / 2 * LEVELS).astype(np.uint8)


def from_image(image: np.ndarray, depth_range: float | None = None) -> np.ndarray:
    """An 8-bit image (S, S), 255 nearest, 0 no depth, as values (S, S, 1) float32 in [-1, 1].

    depth_range  of the 255 levels, as a fraction of the range of values (one side of the crop); None: 1. Depths beyond
                 it are clipped to the smallest value above -1 that 8 bits hold. ValueError when it is not positive.
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"depth: a depth image is (S, S) uint8, received {image.shape} {image.dtype}")
    if depth_range is not None and not depth_range > 0:
        raise ValueError(f"depth: depth_range, of an image's levels, is positive, received {depth_range}")
    values = image.astype(np.float32) * (2 / LEVELS) - 1
    if depth_range is not None:
        values = np.where(image > 0, np.maximum(1 - depth_range * (1 - values), -1 + 2 / LEVELS), BACKGROUND)
    return values.astype(np.float32)[..., None]


def assumed_camera(size: int, limits: DepthRange = DepthRange(DISTANCE, DISTANCE + RANGE)) -> Camera:
    """The camera assumed for a crop: it looks at the middle of the crop, one side of which is as long as the range at
    depth near; the world's origin lies there, too."""
    return look_at_face(size, limits.near, size * limits.near / (limits.far - limits.near))


def _checked(depth: np.ndarray) -> np.ndarray:
    depth = np.asarray(depth, np.float64)
    if depth.ndim != 2:
        raise ValueError(f"depth: a map is (H, W), received {depth.shape}")
    if np.isinf(depth).any() or (depth <= 0).any():
        raise ValueError("depth: depths are positive, NaN for none; received 0, less or infinity")
    return depth


def _colours(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    image = np.asarray(image)
    if image.shape != (*shape, 3) or image.dtype != np.uint8:
        raise ValueError(f"depth: an image of the map is {(*shape, 3)} uint8, received {image.shape} {image.dtype}")
    return image[..., ::-1]
