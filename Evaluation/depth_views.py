"""What became of a depth map, side by side, as the paper's figure 9 shows it (Baby et al. 2020): photo, depth, coloured
cloud, wireframe, surface."""
from __future__ import annotations

import cv2
import numpy as np

from Dataset.camera import Camera
from Dataset.mesh import Mesh
from Dataset.representations.depth import decode, encode_depth, to_picture, triangulate
from Evaluation.splat import Frame, render_cloud
from Evaluation.wireframe import draw_wireframe

SPACING = 8         # pixels of the picture between a wireframe's lines: nearer ones would fill it


def depth_strip(image: np.ndarray, depth: np.ndarray, camera: Camera, surface: Mesh, yaw: float = 30.0,
                size: int = 320) -> np.ndarray:
    """(size, 5 size, 3) uint8 BGR: the image (S, S, 3), its depth map (S, S) mm as grey (near is bright), and from
    `yaw` degrees the cloud in the image's colours, a wireframe of it, and `surface`, which
    `Dataset.surface_reconstruction.depth_surface` makes. ValueError "no depth" where the map is empty.
    """
    seen = np.isfinite(depth)
    cloud = decode(depth, camera, image)
    if not seen.any():
        raise ValueError("no depth: there is nothing to show")
    rows, columns = np.nonzero(seen)
    every = max(1, round(max(np.ptp(rows), np.ptp(columns)) * SPACING / size))
    wire, frame = triangulate(depth, camera, every=every), Frame.around(cloud.vertices)
    grey = cv2.cvtColor(to_picture(encode_depth(depth, None, camera.focal)), cv2.COLOR_GRAY2BGR)
    flat = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR) for picture in (image, grey)]
    return np.hstack([*flat, render_cloud(cloud.vertices, yaw, size, cloud.colours, frame, shade=False),
                      draw_wireframe(wire.vertices, wire.triangles, yaw, size, frame),
                      render_cloud(surface.vertices, yaw, size, surface.colours, frame, surface.triangles)])
