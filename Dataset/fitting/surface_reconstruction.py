"""Depth map -> coloured cloud -> wireframe -> smooth surface, as in the paper's images (Baby et al. 2020, section
IV.F): Poisson surface reconstruction (Kazhdan et al. 2006) by Open3D.

Poisson reconstruction extrapolates: from an open cloud it makes a surface that extends to the border of its box. Parts
far from any point have a low density and are trimmed. For a surface without a border (`watertight`) the cloud is closed
first, by a flat back and by walls along the outline, as seen from the camera.

The paper cites Yu et al. 2004 for the method, which is mesh editing; Open3D implements Kazhdan's.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from Dataset.geometry.camera import Camera
from Dataset.geometry.mesh import Mesh
from Dataset.representations.depth import decode

MAX_POINTS = 1_000_000      # of a cloud: 1024 x 1024 pixels
NEIGHBOURS = 40             # of the plane that gives a point's normal: 8-bit depth has steps as large as a pixel
BACK = 10.0                 # mm that the flat back lies behind the farthest point
SCALES = (1.3, 1.7, 2.2)    # of the box around a closed cloud: the smallest that gives a closed surface is used


@dataclass(frozen=True)
class PoissonOptions:
    """level: of the octree, the surface's details are 2**-level of its box; trim: fraction of the vertices, those of
    the lowest density, to remove; watertight: close the back and trim nothing. ValueError for a value out of range."""
    level: int = 7
    trim: float = 0.1
    watertight: bool = False

    def __post_init__(self) -> None:
        if not 3 <= self.level <= 10:
            raise ValueError(f"level must be within 3 to 10, got {self.level}")
        if not 0 <= self.trim < 1:
            raise ValueError(f"trim must be at least 0 and below 1, got {self.trim}")


def depth_surface(depth: np.ndarray, camera: Camera, image: np.ndarray | None = None,
                  options: PoissonOptions = PoissonOptions()) -> Mesh:
    """The Poisson surface of a depth map (H, W) mm, NaN for none: a mesh in the camera's world (mm), with the colours
    of an image (H, W, 3) uint8 BGR.

    The same map gives the same bytes. ValueError "no depth" when fewer than 4 pixels have one.
    """
    cloud = decode(depth, camera, image)
    back = closing_points(depth, camera) if options.watertight and len(cloud.vertices) > 3 else None
    return poisson(cloud, camera.position(), options, back)


def poisson(cloud: Mesh, viewpoint: np.ndarray, options: PoissonOptions = PoissonOptions(),
            back: tuple[np.ndarray, np.ndarray] | None = None) -> Mesh:
    """The Poisson surface of a cloud (V, 3) whose points are all seen from `viewpoint` (3,).

    back  points (K, 3) and outward normals (K, 3) of the side that the viewpoint does not see; needed for `watertight`

    Colours are those of the four nearest points. ValueError: fewer than 4 points ("no depth"), more than MAX_POINTS,
    points that are not finite, or no watertight surface was found.
    """
    points = np.asarray(cloud.vertices, np.float64)
    if len(points) < 4:
        raise ValueError(f"no depth: a surface needs at least 4 points, received {len(points)}")
    if len(points) > MAX_POINTS:
        raise ValueError(f"surface: at most {MAX_POINTS} points, received {len(points)}")
    if not np.isfinite(points).all():
        raise ValueError("surface: points are finite, received NaN or infinity")
    normals = estimate_normals(points, viewpoint)
    if not options.watertight:
        vertices, triangles, density = _solve(points, normals, options.level, 1.1)
        vertices, triangles = _keep(vertices, triangles, density >= np.quantile(density, options.trim))
        return _coloured(cloud, vertices, triangles)
    if back is None:
        raise ValueError("surface: watertight needs the points of the back")
    points, normals = np.concatenate([points, back[0]]), np.concatenate([normals, back[1]])
    for scale in SCALES:
        vertices, triangles, _ = _solve(points, normals, options.level, scale)
        if is_closed(triangles):
            return _coloured(cloud, vertices, triangles)
    raise ValueError(f"surface: no watertight surface was found of {len(cloud.vertices)} points")


def estimate_normals(points: np.ndarray, viewpoint: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) of a cloud: of the plane through each point's neighbours, turned towards `viewpoint`."""
    import open3d as o3d  # takes a second to import

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.asarray(points, np.float64)))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(min(NEIGHBOURS, len(points))))
    cloud.orient_normals_towards_camera_location(np.asarray(viewpoint, np.float64))
    return np.asarray(cloud.normals)


def closing_points(depth: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, 3) and outward normals (K, 3) that close a depth map: a flat back BACK mm behind its farthest point,
    and walls from the outline to it. Holes inside the outline get no walls."""
    depth = np.asarray(depth, np.float64)
    seen = np.pad(np.isfinite(depth), 1)        # the image's border is part of the outline
    solid = ndimage.binary_fill_holes(seen)
    outline = (solid & ~ndimage.binary_erosion(solid))[1:-1, 1:-1]
    position = ndimage.distance_transform_edt(~seen[1:-1, 1:-1], return_distances=False, return_indices=True)
    nearest, solid = depth[tuple(position)], solid[1:-1, 1:-1]
    end = np.nanmax(depth) + BACK
    step = 2 * np.nanmin(depth) / camera.focal              # two pixels
    along = nearest[outline][:, None] + np.arange(step, end - np.nanmin(depth), step)
    # away from the solid in the image: down its blurred outline
    rise = np.gradient(ndimage.gaussian_filter(np.pad(solid, 8).astype(float), 2.0))
    away = -np.stack([rise[1], rise[0]], -1)[8:-8, 8:-8][outline]
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    rays = camera.rays()
    walls = rays.origin + rays.directions[outline][:, None] * along[..., None]
    sideways = np.concatenate([away, np.zeros((len(away), 1))], 1) @ camera.rotation
    keep = (along < end - step / 2) & (np.abs(sideways).sum(1) > 0)[:, None]
    flat = rays.origin + rays.directions[solid] * end
    sideways = np.broadcast_to(sideways[:, None], walls.shape)[keep]
    return (np.concatenate([walls[keep], flat]),
            np.concatenate([sideways, np.broadcast_to(camera.rotation[2], flat.shape)]))


def is_closed(triangles: np.ndarray) -> bool:
    """Whether a mesh has no border: every edge belongs to two triangles, which run along it in opposite directions.
    (Open3D's is_watertight also searches for intersecting triangles, which takes minutes.)"""
    sides = np.stack([triangles, np.roll(triangles, -1, 1)], 2).reshape(-1, 2)
    forth, uses = np.unique(sides, axis=0, return_counts=True)
    return len(triangles) > 0 and bool((uses == 1).all()) and np.array_equal(forth, np.unique(sides[:, ::-1], axis=0))


def _solve(points: np.ndarray, normals: np.ndarray, level: int, scale: float
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), triangles (F, 3), density (V,); on one thread, since several change the order of the bytes."""
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.normals = o3d.utility.Vector3dVector(normals)
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        mesh, density = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=level, scale=scale,
                                                                                  n_threads=1)
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64), np.asarray(density)


def _keep(vertices: np.ndarray, triangles: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangles whose corners are all kept, and the vertices that they use."""
    used, triangles = np.unique(triangles[keep[triangles].all(1)], return_inverse=True)
    return vertices[used], triangles.reshape(-1, 3).astype(np.int64)


def _coloured(cloud: Mesh, vertices: np.ndarray, triangles: np.ndarray) -> Mesh:
    if cloud.colours is None or not len(vertices):
        return Mesh(vertices, triangles)
    distance, index = cKDTree(cloud.vertices).query(vertices, 4)
    weights = 1 / (distance + 1e-6)
    mixed = np.einsum("vk,vkc->vc", weights / weights.sum(1, keepdims=True), cloud.colours[index].astype(float))
    return Mesh(vertices, triangles, colours=np.rint(mixed).astype(np.uint8))
