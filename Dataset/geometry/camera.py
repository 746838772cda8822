"""Pinhole cameras: head frame to pixels and back. The only file in which an axis flips.

The world here is the *posed* head frame of ``docs/conventions.md``: right-handed, millimetres, +x to the
right of a frontal image, +y up, +z towards the camera. The camera frame is OpenCV's: +x right, +y down,
+z forwards, so that depth is positive in front of the camera. Pixel coordinates are (x, y) with the
centre of the first pixel at (0.5, 0.5); a box (x, y, w, h) covers the half-open pixel rectangle [x, x+w)
x [y, y+h).
"""
from typing import NamedTuple

import numpy as np

# Head frame (y up, z to the camera) to camera frame (y down, z forwards): a half turn about x, its own
# inverse.
FLIP = np.diag([1.0, -1.0, -1.0])


class Projection(NamedTuple):
    """Pixel coordinates x, y and depth (mm along the optical axis), each of the shape of the points given."""
    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray


class Rays(NamedTuple):
    """Origin (3,) and directions (..., 3) in the world, float64; a direction's camera z is 1, so its
    parameter t *is* the depth."""
    origin: np.ndarray
    directions: np.ndarray


class Camera(NamedTuple):
    """A pinhole camera with square pixels: x_camera = rotation @ x_world + translation (mm).

    width, height: pixels; focal: pixels; centre: principal point (x, y) in pixels; rotation: (3, 3) world
    to camera, a proper rotation; translation: (3,) mm.
    """
    width: int
    height: int
    focal: float
    centre: tuple[float, float]
    rotation: np.ndarray
    translation: np.ndarray

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in mm to the camera frame, same shape, float64."""
        return np.asarray(points, np.float64) @ self.rotation.T + self.translation

    def position(self) -> np.ndarray:
        """The optical centre in the world, (3,) mm."""
        return -self.rotation.T @ self.translation

    def project(self, points: np.ndarray) -> Projection:
        """World points (..., 3) to pixels and depth; points at or behind the camera plane get NaN pixels."""
        x, y, depth = np.moveaxis(self.to_camera(points), -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(depth > 0, self.focal / depth, np.nan)
        return Projection(x * scale + self.centre[0], y * scale + self.centre[1], depth)

    def rays(self, pixels: np.ndarray | None = None) -> Rays:
        """Rays through pixel positions (..., 2), by default the centres of all pixels, (height, width)."""
        if pixels is None:
            x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        else:
            x, y = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
        forwards = np.stack([(x - self.centre[0]) / self.focal, (y - self.centre[1]) / self.focal,
                             np.ones_like(x)], axis=-1)
        return Rays(self.position(), forwards @ self.rotation)

    def unproject(self, depth: np.ndarray) -> np.ndarray:
        """A depth map (height, width) in mm to world points (height, width, 3), float64; NaN depth gives
        NaN points."""
        depth = np.asarray(depth, np.float64)
        if depth.shape != (self.height, self.width):
            raise ValueError(f"unproject: a depth map has the camera's shape {(self.height, self.width)}, "
                             f"received {depth.shape}")
        rays = self.rays()
        return rays.origin + rays.directions * depth[..., None]

    def crop(self, box: tuple[int, int, int, int], size: int) -> "Camera":
        """The camera of the square ``box`` (x, y, w, h) of this image, resized to (size, size).

        The box may hang over the image's edge. Raises ValueError for a box that is not square or is empty.
        """
        x, y, width, height = box
        if width != height or width <= 0 or size <= 0:
            raise ValueError(f"crop: a square box and a positive size are needed, received box {tuple(box)}, "
                             f"size {size}")
        scale = size / width
        return self._replace(width=int(size), height=int(size), focal=self.focal * scale,
                             centre=((self.centre[0] - x) * scale, (self.centre[1] - y) * scale))


def look_at_face(size: int, distance: float, focal: float, shift: tuple[float, float] = (0.0, 0.0)) -> Camera:
    """A camera on the +z axis of the head frame that looks at the origin, image upright.

    size: side of the square image (px); distance: from the origin to the optical centre (mm); focal: pixels;
    shift: moves the principal point by (x, y) pixels off the centre. A head's pose is a rotation of the
    *model* (``transforms.rotation_from_euler``), the camera stays.
    """
    if size <= 0 or not distance > 0 or not focal > 0:
        raise ValueError(f"look_at_face: size, distance and focal are positive, received {size}, {distance}, {focal}")
    return Camera(int(size), int(size), float(focal), (size / 2 + shift[0], size / 2 + shift[1]),
                  FLIP.copy(), np.array([0.0, 0.0, float(distance)]))
