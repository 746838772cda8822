"""Representation `depth`: how far the face is at each pixel, along the camera's axis (the `pix2pix` system's target).

A depth map is (H, W) float32, millimetres along the optical axis at pixel centres (`Dataset/geometry/camera.py`); NaN is "no
depth", never 0. Points are in the camera's world (the posed head frame: +y up, +z to the camera), row by row.

What a network predicts (`encode_depth`) cannot be that distance: a crop does not show it. It is how far each place
lies behind the face's nearest one, as a share of a range:

    value = 1 - 2 (depth - near) / (far - near)     the nearest place +1, `far` and what has no depth -1

near is the map's own smallest depth. far - near is one side of the crop at near's distance, where the focal length is
known: then a face keeps its values when it comes nearer or is enlarged, and decoded points are right up to one
similarity, which every metric here takes away. Without it it is RANGE mm. The meaning is that of the Texas 3D range
images (8 bits, 255 nearest, 0 no face). What is lost: the distance, with it the true size, and perspective.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from Dataset.errors import NotFittable
from Dataset.geometry.camera import Camera, look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.sampling import sample
from Dataset.rendering.raycast import Scene

RANGE = 200.0           # mm: about what a crop of a face shows from side to side
DISTANCE = 800.0        # mm: of a face from a camera of which nothing is known
BACKGROUND = -1.0       # the value of "no depth"
THRESHOLD = -0.9        # values below are no depth: a network comes near -1, and a face's own lie far above
LEVELS = 255            # of an 8-bit image; 0 is no depth
LARGE = 0.1             # of the largest part's pixels: a smaller one is a speck
STEEPEST = 80.0         # degrees between a triangle's plane and the image's: steeper is a jump, not a surface


class DepthRange(NamedTuple):
    """Depths (mm) of the values +1 and -1."""
    near: float
    far: float


def encode(surface: Mesh | Scene, camera: Camera) -> np.ndarray:
    """What a camera sees of a mesh in its world: (height, width) float32 mm, NaN where there is nothing."""
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
    depth by more than tan(steepest) times the pixel's size there, which is a jump from one thing to the next. Vertices
    that no triangle uses stay.
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
    """Points (count, 3) float64 mm, even over a depth map's surface, for the metrics of clouds (Evaluation/): pixels
    alone would be dense in the middle of a face and sparse at its sides. ValueError "no depth" where there is none."""
    mesh = triangulate(depth, camera)
    if not len(mesh.triangles):
        raise NotFittable("no depth: the map has no surface to take points from")
    return sample(mesh, count, rng).points


def depth_range(depth: np.ndarray, focal: float | None = None) -> DepthRange:
    """The range of a depth map (S, S) mm, NaN where it counts for nothing: from its smallest depth over one side of the
    crop there (focal: pixels), or over RANGE mm. Of a map without any depth: (DISTANCE, DISTANCE + RANGE)."""
    depth = np.asarray(depth)
    if focal is not None and not focal > 0:
        raise ValueError(f"depth: a focal length is positive, received {focal}")
    if not np.isfinite(depth).any():
        return DepthRange(DISTANCE, DISTANCE + RANGE)
    near = float(np.nanmin(np.where(np.isfinite(depth), depth, np.nan)))
    return DepthRange(near, near + (RANGE if focal is None else near * depth.shape[1] / focal))


def encode_depth(depth: np.ndarray, mask: np.ndarray | None = None, focal: float | None = None) -> np.ndarray:
    """A depth map as the network predicts it: (S, S) float32 mm, NaN for none -> (S, S, 1) float32 in [-1, 1].

    mask   (S, S) bool: the face; what lies outside it is as if it had no depth. None: all that has a depth
    focal  of the camera, px: the range is then one side of the crop; None: RANGE mm

    The nearest place of the face is +1, no depth is -1. What lies beyond the range, and would be taken for nothing, is
    the last value above it that 8 bits hold. All -1 where there is no face. ValueError for wrong shapes and a
    depth that is not positive.
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

    limits     `depth_range` of the map that was encoded gives its depths back. Of a photo's it is unknown: the default
               is a guess, by which depths are right up to an offset (near) and a scale (far - near)
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
    """A depth map (H, W) with its connected parts of at least LARGE of the largest one's pixels, NaN elsewhere: glasses
    cut a face in two, but what a network sees beside one, specks, would draw a fit away from it and become blobs of a
    surface."""
    parts, count = ndimage.label(np.isfinite(depth))
    if count < 2:
        return depth
    pixels = np.bincount(parts.ravel())
    pixels[0] = 0
    return np.where((pixels >= max(1, LARGE * pixels.max()))[parts], depth, np.float32(np.nan))


def to_picture(values: np.ndarray) -> np.ndarray:
    """Values (S, S) or (S, S, 1) in [-1, 1] as an 8-bit image (S, S): 255 nearest, 0 no depth; half a level is lost.
    """
    values = np.asarray(values, np.float64).reshape(np.shape(values)[:2])
    return np.rint((np.clip(np.nan_to_num(values, nan=BACKGROUND), -1, 1) + 1) / 2 * LEVELS).astype(np.uint8)


def from_picture(picture: np.ndarray, share: float | None = None) -> np.ndarray:
    """An 8-bit image (S, S), 255 nearest, 0 no depth, as values (S, S, 1) float32 in [-1, 1].

    share  of the range of values (one side of the crop), how much the 255 levels span; None: the whole range. What
           lies beyond it is the last value above -1 that 8 bits hold. ValueError for one that is not positive.
    """
    picture = np.asarray(picture)
    if picture.ndim != 2 or picture.dtype != np.uint8:
        raise ValueError(f"depth: a depth image is (S, S) uint8, received {picture.shape} {picture.dtype}")
    if share is not None and not share > 0:
        raise ValueError(f"depth: the share of a depth image's levels is positive, received {share}")
    values = picture.astype(np.float32) * (2 / LEVELS) - 1
    if share is not None:
        values = np.where(picture > 0, np.maximum(1 - share * (1 - values), -1 + 2 / LEVELS), BACKGROUND)
    return values.astype(np.float32)[..., None]


def assumed_camera(size: int, limits: DepthRange = DepthRange(DISTANCE, DISTANCE + RANGE)) -> Camera:
    """The camera of a crop of which nothing is known: it looks at the crop's middle, and one side of the crop is as
    long as the range, at near's distance; the world's origin lies there, too."""
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
