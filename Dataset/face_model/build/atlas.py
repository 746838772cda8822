"""The built-in face's texture square: where each UV island goes, and soft masks drawn in it."""
from __future__ import annotations

import cv2
import numpy as np
import open3d as o3d
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from Dataset.face_model.build.grid import angles
from Dataset.face_model.build.makehuman import MASKS, REGIONS, Head, Source, read_mask
from Dataset.geometry.subdivision import triangulate

SIZE = 512
# The head's island gets the upper five sixths of the square; MakeHuman gives it less than a quarter, lying on its side.
SKIN_WINDOW = (0.004, 0.170, 0.996, 0.996)
EYE_WIDTH, SLOT_TOP, GAP = 0.15, 0.154, 0.004
IRIS_MM, PUPIL_MM = 6.0, 2.2


def pack(head: Head) -> np.ndarray:
    """Corner UV (Q, 4, 2) in [0, 1], u to the subject's left, v up; islands do not overlap.

    The head's island is turned upright; below it, from left to right, the two irises (right eye, left eye) and then the
    other islands in the order of their numbers in base.obj.
    """
    uv = np.empty_like(head.corner_uv)
    iris = [k for k in np.unique(head.islands) if _is_iris(head, k)]
    iris.sort(key=lambda k: head.vertices[head.quads[head.islands == k], 0].mean())
    rest = [k for k in np.unique(head.islands) if k not in iris
            and head.regions[head.islands == k][0] != REGIONS.index("skin")]
    width = (1 - 2 * EYE_WIDTH) / len(rest)
    windows = {k: (i * EYE_WIDTH, EYE_WIDTH) for i, k in enumerate(iris)}
    windows |= {k: (2 * EYE_WIDTH + i * width, width) for i, k in enumerate(rest)}
    for island in np.unique(head.islands):
        mine = head.islands == island
        source = head.corner_uv[mine]
        if island in windows:
            left, wide = windows[island]
            window = (left + GAP, GAP, left + wide - GAP, SLOT_TOP)
        else:
            source = np.stack([source[..., 1], -source[..., 0]], -1)
            window = SKIN_WINDOW
        low, high = source.reshape(-1, 2).min(0), source.reshape(-1, 2).max(0)
        uv[mine] = window[:2] + (source - low) / (high - low) * np.subtract(window[2:], window[:2])
    return uv


def _is_iris(head: Head, island: int) -> bool:
    mine = head.islands == island
    eye = head.regions[mine][0]
    if eye not in (REGIONS.index("eye_right"), REGIONS.index("eye_left")):
        return False
    return head.vertices[head.quads[mine], 2].mean() > head.vertices[head.quads[head.regions == eye], 2].mean()


def build_masks(source: Source, head: Head, uv: np.ndarray, mean: np.ndarray, landmarks: np.ndarray
                ) -> dict[str, np.ndarray]:
    """Masks (SIZE, SIZE) uint8, row 0 at v = 1, from corner UV, mean head (V, 3) mm and its landmarks (68, 3) mm."""
    flat = np.concatenate([triangulate(uv).reshape(-1, 2), np.zeros((len(uv) * 6, 1))], 1).astype(np.float32)
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(flat, np.arange(len(flat), dtype=np.uint32).reshape(-1, 3))
    u, v = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, 1 - (np.arange(SIZE) + 0.5) / SIZE)
    down = np.stack([u, v, np.ones_like(u), 0 * u, 0 * u, -np.ones_like(u)], -1).astype(np.float32)
    hits = scene.cast_rays(down)
    triangle = hits["primitive_ids"].numpy().astype(np.int64)
    inside = triangle < len(uv) * 2
    triangle[~inside] = 0
    first, second = np.moveaxis(hits["primitive_uvs"].numpy().astype(float), -1, 0)
    weights = np.stack([1 - first - second, first, second], -1)[..., None]
    position = (mean[triangulate(head.quads)[triangle]] * weights).sum(2)
    old = (triangulate(head.corner_uv)[triangle] * weights).sum(2)
    region = head.regions[triangle // 2]
    skin = inside & (region == REGIONS.index("skin"))

    masks = {}
    for name in MASKS:
        image = read_mask(source, name)
        x, y = old[..., 0] * image.shape[1] - 0.5, (1 - old[..., 1]) * image.shape[0] - 0.5
        sampled = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR) / 255.0
        masks[name] = np.where(inside, sampled, 0)
    masks |= {k: np.where(skin, m, 0) for k, m in _hair(position, landmarks, masks["lips"], masks["ears"]).items()}
    for name, radius in (("iris", IRIS_MM), ("pupil", PUPIL_MM)):
        masks[name] = sum(_disc(position, mean[np.unique(head.quads[head.regions == REGIONS.index(eye)])], radius)
                          * (inside & (region == REGIONS.index(eye))) for eye in ("eye_right", "eye_left"))
    # Past an island's border the nearest value goes on, so that interpolation at the border brings nothing in.
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return {k: np.round(255 * np.clip(m[tuple(nearest)], 0, 1)).astype(np.uint8) for k, m in masks.items()}


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, smooth between (low > high: the other way round)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _disc(position: np.ndarray, eye: np.ndarray, radius: float) -> np.ndarray:
    centre = (eye.min(0) + eye.max(0)) / 2
    off = np.hypot(*np.moveaxis(position[..., :2] - centre[:2], -1, 0))
    return _step(off, radius + 0.4, radius - 0.4) * (position[..., 2] > centre[2])


def _hair(position: np.ndarray, marks: np.ndarray, lips: np.ndarray, ears: np.ndarray) -> dict[str, np.ndarray]:
    """Where brows, beard and scalp hair grow, as soft fields over positions (H, W, 3) mm on the mean head."""
    x, y, z = np.abs(position[..., 0]), position[..., 1], position[..., 2]
    # Folded to one side: brow 22-26 runs from the nose outwards.
    brow = (marks[22:27] * (1, 1, 1) + marks[21:16:-1] * (-1, 1, 1)) / 2
    folded = np.stack([x, y, z], -1)
    distance, along = _polyline(folded, brow)
    thickness = np.interp(along, [0, 0.15, 0.6, 1.0], [2.6, 3.6, 3.2, 0.9])
    brows = _step(distance, thickness + 1.6, thickness - 1.2) * (z > marks[36, 2] - 30)

    # Seen from inside the head: azimuth 0 in front, 90 at the ear; elevation 0 level with the nose's root.
    azimuth, elevation = angles(position)
    hairline = PchipInterpolator([0, 25, 40, 50, 56, 62, 75, 110, 180], [50, 51, 50, 40, 22, 10, -2, -22, -25])(azimuth)
    scalp = _step(elevation - hairline, -3.5, 4.5) * (1 - np.clip(2 * ears, 0, 1))

    # The beard: below a line from the sideburn to the mouth's corner, without the lips; moustache; fades on the neck.
    corner, nose = (marks[54] * (1, 1, 1) + marks[48] * (-1, 1, 1)) / 2, marks[33]
    side, level = angles(corner)
    heights = [level, level, level - 4, level + 2, -4, 14, 20]
    line = PchipInterpolator([0, side, side + 8, 40, 52, 60, 90], heights)(azimuth)
    jaw = _step(elevation - line, 4, -5) * _step(y, marks[8, 1] - 30, marks[8, 1] - 6) * _step(azimuth, 72, 64)
    bow = _step(np.hypot((x - 0.35 * corner[0]) / (corner[0] + 3), (y - (corner[1] + nose[1]) / 2) / 13), 1.25, 0.75)
    lip = bow * _step(y, nose[1] + 1, nose[1] - 4) * (z > corner[2] - 15) * (0.6 + 0.4 * _step(x, 1, 5))
    beard = np.maximum(jaw, lip) * (1 - np.clip(1.5 * lips, 0, 1)) * (1 - np.clip(2 * ears, 0, 1))
    return {"brows": brows, "scalp": scalp, "beard": beard}


def _polyline(points: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point (..., 3) to a polyline (N, 3), and the position of the nearest point along it, 0 to 1."""
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    best, along = np.full(points.shape[:-1], np.inf), np.zeros(points.shape[:-1])
    for a, b, start, length in zip(line[:-1], line[1:], starts, lengths):
        t = np.clip((points - a) @ (b - a) / length**2, 0, 1)
        distance = np.linalg.norm(points - (a + t[..., None] * (b - a)), axis=-1)
        closer = distance < best
        best[closer], along[closer] = distance[closer], ((start + t * length) / starts[-1])[closer]
    return best, along
