"""A point cloud as a shaded image: each point is a disc tangent to its surface, z-buffered, lit from above the camera.

Surfel splatting after Pfister et al. 2000 in a simple two-pass form: depth first, then the blend of what lies in front.
Seen orthographically. For figures only, not for training images. Numpy, scipy and OpenCV; no display.
"""
from __future__ import annotations

from typing import Iterator, NamedTuple

import cv2
import numpy as np
from scipy.spatial import cKDTree

from Dataset.geometry.normals import plane_normals
from Dataset.geometry.transforms import as_points, rotation_from_euler
from Dataset.rendering.shading import lambert

CLAY = (196, 204, 212)          # BGR of a cloud without colours
BACKGROUND = (255, 255, 255)
LIGHT = np.array([-0.15, 0.4, 0.9])       # head frame seen from the camera: a little from the left and above
AMBIENT = 0.28
OVERSAMPLE = 2
MAX_RADIUS = 12                 # pixels: a sparse cloud shows as dots, not as plates


class Frame(NamedTuple):
    """What part of space an image shows: centre (3,), and half the side of the square it spans."""

    centre: np.ndarray
    half: float

    @classmethod
    def around(cls, *clouds: np.ndarray) -> Frame:
        """The square that holds all clouds from every side (99.5 % of each one's points: strays may fall outside)."""
        centre = np.mean([(c.min(axis=0) + c.max(axis=0)) / 2 for c in clouds], axis=0)
        reach = max(float(np.quantile(np.linalg.norm(c - centre, axis=1), 0.995)) for c in clouds)
        return cls(centre, 1.04 * reach if reach > 0 else 1.0)


def render_cloud(points: np.ndarray, yaw: float = 0.0, size: int = 320, colours: np.ndarray | None = None,
                 frame: Frame | None = None, triangles: np.ndarray | None = None, shade: bool = True) -> np.ndarray:
    """(N, 3) points in the head frame -> (size, size, 3) uint8 BGR image on white.

    yaw        degrees; 0 is the front, positive turns the face to image right
    colours    (N, 3) uint8 **RGB** (as a Mesh has them), or None for clay
    frame      the part of space to show, the same for clouds that are to be compared; None: this cloud's own
    triangles  (F, 3) indices: the surface is filled with points of its own, so that a coarse mesh shows no gaps
    shade      False: the colours as they are (for heat maps)
    """
    points = as_points(points, "cloud")
    if size < 8:
        raise ValueError(f"image: want a size of at least 8 pixels, got {size}")
    frame = Frame.around(points) if frame is None else frame
    bgr = np.tile(np.array(CLAY, np.float64), (len(points), 1)) if colours is None \
        else np.asarray(colours, np.float64)[:, 2::-1]
    if bgr.shape != points.shape:
        raise ValueError(f"colours: want shape {points.shape}, got {np.shape(colours)}")
    if triangles is not None and len(triangles):
        points, bgr = fill(points, bgr, np.asarray(triangles))
    normals, spacing = estimate_normals(points)
    return _splat(points, normals, spacing, bgr, rotation_from_euler(yaw=yaw), frame, size, shade)


def estimate_normals(points: np.ndarray, neighbours: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) -> (N, 3) unit normals that point away from the cloud's inside, and (N,) local spacings.

    The least axis of a point's nearest points, turned outwards (away from a point behind the centroid: faces are open
    at the back), then averaged over the neighbours once. A cloud of fewer than 4 points looks at the camera.
    """
    k = min(neighbours, len(points))
    if k < 4:
        return np.tile([0.0, 0.0, 1.0], (len(points), 1)), np.zeros(len(points))
    distance, index = cKDTree(points).query(points, k)
    normals = plane_normals(points, index)
    behind = points.mean(axis=0) - np.array([0, 0, 0.5 * np.ptp(points[:, 2])])
    normals *= np.where(np.einsum("ij,ij->i", normals, points - behind) < 0, -1.0, 1.0)[:, None]
    normals = normals[index].mean(axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1.0), distance[:, min(6, k - 1)]


def fill(points: np.ndarray, colours: np.ndarray, triangles: np.ndarray, count: int = 60_000,
         ) -> tuple[np.ndarray, np.ndarray]:
    """`count` points spread evenly over a mesh's surface, with interpolated colours; the same ones every time."""
    rng = np.random.default_rng(0)
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not area.sum() > 0:
        return points, colours
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    u = np.sqrt(rng.random(count))
    v = rng.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    corners = triangles[chosen]
    return np.einsum("nk,nki->ni", weights, points[corners]), np.einsum("nk,nki->ni", weights, colours[corners])


def _splat(points: np.ndarray, normals: np.ndarray, spacing: np.ndarray, bgr: np.ndarray, rotation: np.ndarray,
           frame: Frame, size: int, shade: bool) -> np.ndarray:
    side = size * OVERSAMPLE
    scale = side / (2 * frame.half)
    seen = (points - frame.centre) @ rotation.T
    facing = normals @ rotation.T
    facing *= np.where(facing[:, 2] < 0, -1.0, 1.0)[:, None]        # both sides are lit: a guessed side may be wrong
    column, row = side / 2 + scale * seen[:, 0], side / 2 - scale * seen[:, 1]
    if shade:
        bgr = bgr * lambert(facing, LIGHT / np.linalg.norm(LIGHT), AMBIENT)[:, None]
    radius = float(np.clip(1.3 * np.median(spacing) * scale, 1.0, MAX_RADIUS))
    steep = np.clip(facing[:, 2], 0.3, None)        # discs seen from the edge must not reach far in depth
    reach = int(radius)
    x0, y0 = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)

    def discs() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Row by row of the discs' pixels: (K,) whose pixel it is, its position in the image, depth, weight."""
        for dy in range(-reach, reach + 1):
            half = int(np.sqrt(radius * radius - dy * dy))
            dx = np.arange(-half, half + 1)
            x = x0[:, None] + dx
            which, along = np.nonzero((x >= 0) & (x < side) & (y0[:, None] + dy >= 0) & (y0[:, None] + dy < side))
            dx = dx[along]
            # the disc lies in the surface's plane: its depth changes across it
            z = seen[which, 2] - (facing[which, 0] * dx - facing[which, 1] * dy) / (steep[which] * scale)
            weights = np.exp(-3.0 * (dx * dx + dy * dy) / radius ** 2)
            yield which, (y0[which] + dy) * side + x0[which] + dx, z, weights

    depth = np.full(side * side, -np.inf)
    for _, pixel, z, _ in discs():
        np.maximum.at(depth, pixel, z)
    total, weight = np.zeros((3, side * side)), np.zeros(side * side)
    behind = 1.5 * radius / scale       # what lies this little behind the front is the same surface: blended
    for which, pixel, z, w in discs():
        front = z > depth[pixel] - behind
        weight += np.bincount(pixel[front], w[front], side * side)
        for channel in range(3):
            total[channel] += np.bincount(pixel[front], w[front] * bgr[which[front], channel], side * side)
    image = np.tile(np.array(BACKGROUND, np.float64), (side * side, 1))
    hit = weight > 0
    image[hit] = (total[:, hit] / weight[hit]).T
    image = np.clip(np.round(image), 0, 255).astype(np.uint8).reshape(side, side, 3)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
