"""Representation `volume`: the voxels that a face occupies, aligned with the image (target of `vrn`; Jackson et al.
2017: 192x192x200 for a crop of 192x192).

A volume is (S, S, D): row, column, layer. Voxel (r, c, k) lies under pixel (r, c); layer 0 is the nearest to the
camera. **Voxel coordinates** (x, y, z) are float64: x, y pixels of the crop as everywhere (the first pixel's centre is
0.5), z layers, from 0 (the front of layer 0) to D. With x right, y down, z away they are right-handed. One layer is as
long as one pixel is wide at the middle plane z = D / 2, which lies halfway between the solid's nearest and farthest
vertex: so a face keeps its proportions at any distance. x and y are those of the perspective image; `Frame.world`
removes the perspective, where the focal length is known or assumed.

A closed mesh is voxelised. Of a face it is the surface of the ordered grid (eyes and mouth closed by its strips),
closed behind by the cone from its boundary to the boundary's centre (`solid`). A voxel is filled if its centre lies
inside, where a ray has entered the mesh more often than it has left it. So concavities stay empty (in a profile,
between nose and far cheek), which filling from the first hit to the last would close.
"""
from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from scipy import sparse

from Dataset.errors import NotFittable
from Dataset.face_model.model import FaceModel
from Dataset.geometry.camera import Camera, look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.io.archives.npz import read_npz
from Dataset.io.atomic import write_atomic
from Dataset.representations import points

SIZE, LAYERS = 192, 200         # the paper's
LEVEL = 0.5                     # of the sigmoid values: the surface
SOLID = 64                      # side of the ordered grid that is filled: cells of 2 mm
STEPS = 8                       # rings from the boundary to its centre: small triangles are voxelised faster
FOCAL, DISTANCE = 4.2, 800.0    # assumed for a photo, in sides and mm: medians of Dataset.synthesis.renders
LIMITS = (8, 1024)              # of S and D: sizes from files are bounded
MAX_BYTES = 2 ** 24            # of packed bits in a file: 512 x 512 x 512
_NUDGE = np.array([3.1e-7, 1.7e-7])     # px: no ray goes through a vertex or along an edge


class Frame(NamedTuple):
    """The frame of a volume: its camera (of S x S pixels), D, and the depth (mm) of its middle plane."""

    camera: Camera
    layers: int
    middle: float

    @property
    def scale(self) -> float:
        """Pixels (layers) per mm at the middle plane."""
        return self.camera.focal / self.middle

    def voxels(self, world: np.ndarray) -> np.ndarray:
        """Points (..., 3) mm of the camera's world -> voxel coordinates (..., 3) float64; NaN behind the camera."""
        seen = self.camera.project(world)
        return np.stack([seen.x, seen.y, self.layers / 2 + (seen.depth - self.middle) * self.scale], -1)

    def world(self, voxels: np.ndarray) -> np.ndarray:
        """The inverse: voxel coordinates (..., 3) -> mm of the camera's world, (..., 3) float64."""
        voxels = np.asarray(voxels, np.float64)
        depth = self.middle + (voxels[..., 2:] - self.layers / 2) / self.scale
        rays = self.camera.rays(voxels[..., :2])
        return rays.origin + rays.directions * depth


def frame_of(vertices: np.ndarray, camera: Camera, layers: int = LAYERS) -> Frame:
    """The frame of a solid's vertices (V, 3) mm in the camera's world. ValueError for a camera that is not square, a
    size out of range, no vertices, or some at or behind the camera."""
    _check_size(camera.height, camera.width, layers)
    depth = camera.to_camera(np.asarray(vertices, np.float64).reshape(-1, 3))[:, 2]
    if not len(depth) or not depth.min() > 0:
        raise ValueError("volume: a solid has vertices, all of them before the camera")
    return Frame(camera, layers, float(depth.min() + depth.max()) / 2)


def estimate_frame(size: int, layers: int) -> Frame:
    """The frame assumed for the volume of a photo: the usual camera of a crop; the world's origin, in mm, lies in the
    middle of the middle plane."""
    return Frame(look_at_face(size, DISTANCE, FOCAL * size), layers, DISTANCE)


@lru_cache(maxsize=4)
def solid_matrix(model: FaceModel, side: int = SOLID) -> sparse.csr_matrix:
    """(K, V) float64: a model's vertices -> those of its solid, whose faces are `solid_triangles(side)`."""
    steps = points.grid_steps(side)
    low = np.minimum(steps.astype(int), points.SIZE - 2)
    one = sparse.csr_matrix((np.concatenate([1 - (steps - low), steps - low]),
                             (np.tile(np.arange(side), 2), np.concatenate([low, low + 1]))), (side, points.SIZE))
    grid = (sparse.kron(one, one) @ model.grid_matrix.astype(np.float64)).tocsr()
    boundary = _boundary(side)
    rows = np.arange(len(boundary))
    picks = sparse.csr_matrix((np.ones(len(boundary)), (rows, boundary)), (len(boundary), side * side))
    centre = sparse.csr_matrix(np.full((1, len(boundary)), 1 / len(boundary))) @ picks
    rings = [picks * (1 - k / STEPS) + sparse.vstack([centre] * len(boundary)) * (k / STEPS) for k in range(1, STEPS)]
    return (sparse.vstack([sparse.identity(side * side), *rings, centre]).tocsr() @ grid).tocsr()


@lru_cache(maxsize=4)
def solid_triangles(side: int = SOLID) -> np.ndarray:
    """(F, 3) int64, counter-clockwise from outside, closed: the grid's, then the cone behind it."""
    boundary, count, start = _boundary(side), 4 * (side - 1), side * side
    rings = np.vstack([boundary, start + np.arange((STEPS - 1) * count).reshape(STEPS - 1, count)])
    a, b = rings, np.roll(rings, -1, 1)
    cone = [np.stack([a[:-1], a[1:], b[1:]], -1), np.stack([a[:-1], b[1:], b[:-1]], -1),
            np.stack([a[-1:], np.full((1, count), start + (STEPS - 1) * count), b[-1:]], -1)]
    triangles = np.concatenate([points.grid_triangles(side), *(part.reshape(-1, 3) for part in cone)])
    triangles.flags.writeable = False
    return triangles


def _boundary(side: int) -> np.ndarray:
    """The grid's border (4 (side - 1),) int64, so that the grid lies to its left, seen from outside."""
    last, along = side - 1, np.arange(side - 1)
    return np.concatenate([along * side, last * side + along, (last - along) * side + last, last - along])


def solid(vertices: np.ndarray, model: FaceModel, side: int = SOLID) -> Mesh:
    """The closed face of a model's vertices (V, 3), in their unit. ValueError for another number of vertices."""
    if np.shape(vertices) != model.mean.shape:
        raise ValueError(f"vertices must be {model.mean.shape}, received shape {np.shape(vertices)}")
    return Mesh(solid_matrix(model, side) @ np.asarray(vertices, np.float64), solid_triangles(side))


def encode(mesh: Mesh, camera: Camera, layers: int = LAYERS) -> np.ndarray:
    """Voxelise a closed mesh (mm, the camera's world): (S, S, D) bool, S the side of the camera's image.

    Parts outside the crop or the layers are cut off. ValueError as `frame_of`.
    """
    return fill(frame_of(mesh.vertices, camera, layers).voxels(mesh.vertices), mesh.triangles, camera.width, layers)


def fill(voxels: np.ndarray, triangles: np.ndarray, size: int, layers: int) -> np.ndarray:
    """The voxels (size, size, layers) bool whose centres lie in a closed mesh, vertices (V, 3) in voxel coordinates,
    triangles (F, 3) counter-clockwise from outside. A mesh that intersects itself fills the union of its parts. A
    mesh that is inside out (mirrored) fills nothing: flip its triangles."""
    _check_size(size, size, layers)
    column, row, layer, sign = _crossings(np.asarray(voxels, np.float64), np.asarray(triangles), size)
    layer = np.clip(np.ceil(layer - 0.5), 0, layers).astype(np.int64)
    within = layer < layers
    # layers first: so the sum runs over whole planes, a hundred times as fast
    change = np.zeros((layers, size, size), np.int8)
    np.add.at(change, (layer[within], row[within], column[within]), sign[within])
    for before, plane in zip(change, change[1:]):
        plane += before
    inside = cv2.transpose((change > 0).view(np.uint8).reshape(layers, -1))     # in blocks: ten times NumPy's speed
    return inside.view(bool).reshape(size, size, layers)


def _crossings(voxels: np.ndarray, triangles: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """Where the rays through pixel centres meet triangles: column, row (N,) int64, z (N,) float64, and 1 where they
    enter the mesh, -1 where they leave it, (N,) int8."""
    x, y, z = (np.ascontiguousarray(voxels[:, k])[triangles.T] for k in range(3))       # (3, F) each
    x, y = x - _NUDGE[0], y - _NUDGE[1]
    left, right, top, bottom = (limit(limit(values[0], values[1]), values[2]) for values in (x, y)
                                for limit in (np.minimum, np.maximum))
    left, top = (np.maximum(np.ceil(values - 0.5), 0) for values in (left, top))
    right, bottom = (np.minimum(np.floor(values - 0.5), size - 1) for values in (right, bottom))
    near = np.flatnonzero((right >= left) & (bottom >= top))
    left, top = left[near].astype(np.int64), top[near].astype(np.int64)
    wide, tall = right[near].astype(np.int64) - left + 1, bottom[near].astype(np.int64) - top + 1
    counts = wide * tall
    which = np.repeat(np.arange(len(near)), counts)         # a triangle, once for each pixel in its box
    position = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    down, across = np.divmod(position, wide[which])
    column, row, near = left[which] + across, top[which] + down, near[which]
    x, y = x[:, near] - (column + 0.5), y[:, near] - (row + 0.5)
    to_a, to_b, to_c = (x[j] * y[k] - x[k] * y[j] for j, k in ((1, 2), (2, 0), (0, 1)))
    area = to_a + to_b + to_c
    hit = np.flatnonzero((np.minimum(np.minimum(to_a, to_b), to_c) >= 0) & (area > 0)
                         | (np.maximum(np.maximum(to_a, to_b), to_c) <= 0) & (area < 0))
    near, area = near[hit], area[hit]
    z = (to_a[hit] * z[0, near] + to_b[hit] * z[1, near] + to_c[hit] * z[2, near]) / area
    # y points down: counter-clockwise from the camera is a negative area
    return column[hit], row[hit], z, np.where(area < 0, 1, -1).astype(np.int8)


def pack(volume: np.ndarray) -> np.ndarray:
    """Occupancy (S, S, D) bool -> (S, S, ceil(D / 8)) uint8, layer 0 in the highest bit of byte 0; 921,600 bytes at the
    paper's size, 28 to 35 kB of a face once compressed. ValueError for another dtype or shape."""
    volume = np.asarray(volume)
    if volume.dtype != bool or volume.ndim != 3:
        raise ValueError(f"volume: occupancy is (S, S, D) bool, received {volume.shape} {volume.dtype}")
    return np.packbits(volume, axis=-1)


def unpack(packed: np.ndarray, layers: int = LAYERS) -> np.ndarray:
    """The inverse: (..., S, S, ceil(D / 8)) uint8 -> (..., S, S, D) bool. ValueError for another dtype or length."""
    packed = np.asarray(packed)
    if packed.dtype != np.uint8 or packed.ndim < 3 or packed.shape[-1] != -(-layers // 8):
        raise ValueError(f"volume: {layers} packed layers are (..., S, S, {-(-layers // 8)}) uint8, "
                         f"received {packed.shape} {packed.dtype}")
    return np.unpackbits(packed, axis=-1, count=layers).astype(bool)


def save_volume(path: str | os.PathLike[str], volume: np.ndarray) -> None:
    """Write occupancy (S, S, D) bool, S and D within LIMITS, as a .npz of its packed bits, atomically; the same volume
    gives the same bytes. ValueError for another shape or dtype."""
    packed = pack(volume)
    _check_size(*volume.shape)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, packed=packed, layers=np.array(volume.shape[2], np.int64))
    write_atomic(path, write)


def load_volume(path: str | os.PathLike[str]) -> np.ndarray:
    """What `save_volume` wrote: (S, S, D) bool. The size is checked against MAX_BYTES before anything is unpacked.
    ValueError, naming the file, for anything else."""
    stored = read_npz(path, MAX_BYTES + 1024, "packed volume", ("packed", "layers"))
    try:
        packed, layers = stored["packed"], stored["layers"]
        if packed.dtype != np.uint8 or layers.dtype != np.int64 or layers.size != 1:
            raise ValueError(f"packed uint8 and layers int64 are needed, received {packed.dtype} and {layers.dtype}")
        layers = int(layers.reshape(()))
        if packed.ndim != 3 or packed.shape[2] != -(-layers // 8):
            raise ValueError(f"{layers} layers, packed as {packed.shape}")
        _check_size(*packed.shape[:2], layers)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: holds no packed volume ({' '.join(str(error).split())[:160]})") from None
    return unpack(packed, layers)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), float32, without overflow; NaN, of a broken network, is outside."""
    x = np.nan_to_num(np.asarray(logits, np.float32), nan=-100.0, posinf=100.0, neginf=-100.0)
    return 0.5 * (1 + np.tanh(0.5 * x))


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Sigmoid values in [0, 1] as uint8, 255 inside; rounded to half a level."""
    return np.rint(255 * _checked(values)).astype(np.uint8)


def from_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 -> sigmoid values float32 in [0, 1]. ValueError for another dtype: in a uint8 volume that was read as
    int8 the inside is negative."""
    values = np.asarray(values)
    if values.dtype != np.uint8:
        raise ValueError(f"volume: bytes are uint8 from 0 to 255, received {values.dtype}: read them as unsigned")
    return _checked(values)


def decode(values: np.ndarray, image: np.ndarray | None = None) -> Mesh:
    """The surface of a volume where the **sigmoid** values are 0.5, by marching cubes (Lewiner's; scikit-image).

    values  (S, S, D) floats in [0, 1], bool, or uint8 from 0 to 255 (int8 and logits are refused)
    image   (S, S, 3) uint8 BGR: the photo; each vertex has the colour (RGB) at its x, y, bilinear

    -> vertices in voxel coordinates, float64, triangles counter-clockwise from outside; open where the volume's border
    cuts the face. Between the centres of a voxel outside and one inside the position is interpolated linearly.
    ValueError "empty" if there is no surface: no value is above 0.5, or all are.
    """
    from skimage.measure import marching_cubes  # here: it takes a quarter of a second to import

    values = _checked(values)
    inside = values > LEVEL
    if not inside.any() or inside.all():
        raise NotFittable("volume: empty: no surface, " + ("everything" if inside.all() else "nothing") + " is inside")
    positions, triangles, _, _ = marching_cubes(values, LEVEL, gradient_direction="descent", allow_degenerate=False)
    vertices = positions.astype(np.float64)[:, [1, 0, 2]] + 0.5
    mesh = Mesh(vertices, triangles.astype(np.int64))
    return mesh if image is None else mesh._replace(colours=colours_at(image, vertices))


def colours_at(image: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The colours of a photo (S, S, 3) uint8 BGR at x, y of voxel coordinates (N, 3): (N, 3) uint8 RGB, bilinear;
    border pixels are repeated. A hidden point has the colour of what hides it."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(f"volume: an image is (S, S, 3) uint8, received {image.shape} {image.dtype}")
    x, y = (np.ascontiguousarray(voxels[:, k], np.float32).reshape(-1, 1) - np.float32(0.5) for k in range(2))
    found = [cv2.remap(image, x[i:i + 30000], y[i:i + 30000], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
             for i in range(0, len(x), 30000)]      # remap takes no more than 32767 rows
    return np.concatenate(found)[:, 0, ::-1] if found else np.zeros((0, 3), np.uint8)


def front(values: np.ndarray) -> np.ndarray:
    """Where each pixel's ray first meets the surface: (S, S, D) as `decode` takes it -> z (S, S) float64, linear
    between voxels' centres, 0 where layer 0 is inside; NaN where nothing is."""
    values = _checked(values)
    inside = values > LEVEL
    first = inside.argmax(-1)
    rows = np.ogrid[:values.shape[0], :values.shape[1]]
    here = values[rows[0], rows[1], first].astype(np.float64)
    before = values[rows[0], rows[1], np.maximum(first - 1, 0)].astype(np.float64)
    fraction = (here - LEVEL) / np.maximum(here - before, 1e-12)
    return np.where(inside.any(-1), np.where(first == 0, 0.0, first + 0.5 - fraction), np.nan)


def front_depth(values: np.ndarray, frame: Frame | None = None) -> np.ndarray:
    """`front` as a depth map (S, S) float32 mm, NaN for none, of the frame's camera; None: the assumed one."""
    values = np.asarray(values)
    frame = estimate_frame(values.shape[0], values.shape[2]) if frame is None else frame
    return (frame.middle + (front(values) - frame.layers / 2) / frame.scale).astype(np.float32)


def _checked(values: np.ndarray) -> np.ndarray:
    """(S, S, D) float32 in [0, 1]."""
    values = np.asarray(values)
    if values.ndim != 3 or values.shape[0] != values.shape[1]:
        raise ValueError(f"volume: values are (S, S, D), received {values.shape}")
    _check_size(*values.shape)
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    if values.dtype != bool and not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"volume: values are floats in [0, 1], bool or uint8, received {values.dtype}: a uint8 volume "
                         "read as signed numbers has lost its inside")
    values = values.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):       # also NaN
        raise ValueError("volume: values lie in [0, 1]: take the sigmoid of a network's logits first")
    return values


def _check_size(height: int, width: int, layers: int) -> None:
    if height != width or not LIMITS[0] <= width <= LIMITS[1] or not LIMITS[0] <= layers <= LIMITS[1]:
        raise ValueError(f"volume: a square of {LIMITS[0]} to {LIMITS[1]} pixels and as many layers, "
                         f"received {height} x {width} x {layers}")
