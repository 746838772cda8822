"""Write a folder that looks like raw BU-4DFE, with a few subjects of the built-in face.

    RAW/F001/Angry/000.jpg + 000.wrl, ..., six expressions, beside BU_WrlViewer_V2/

Each video begins neutral and still and ends in an expression; each frame has an image and a scan in VRML 2 text:
the front of the head in mm, +y up, +z to the camera, texture coordinates that project it into the image, and
points that no triangle uses, as in the real files. Scans of some subjects have a .bnd beside them, 83 landmarks in the
layout that Dataset/sources/bnd.py describes.
"""
from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from Dataset.face_model.model import load_face_model
from Dataset.sources.bu4dfe_subject import EXPRESSIONS
from Dataset.synthesis.scene import RenderContext, SceneSubject, View, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance

DISTANCE = 1000.0       # camera to head, mm
UNREFERENCED = 300      # stray points a scan


def write_raw(folder: Path, subjects: tuple[str, ...] = ("F001", "F002", "M001"), frames: int = 3, seed: int = 0,
              height: int = 268, subdivided: bool = False, expressions: tuple[str, ...] = EXPRESSIONS,
              marked: tuple[str, ...] = ("F001", "M001")) -> dict[str, np.ndarray]:
    """Write RAW -> each subject's neutral scan vertices (V, 3), mm, to compare ground truths with.

    `height` of the images in pixels (real ones: 1392x1040); `subdivided` scans have about 12,000 used vertices
    instead of 3,000 (real ones: 35,000). The subjects in `marked` have landmark files.
    """
    model = load_face_model()
    context = RenderContext(model)
    (folder / "BU_WrlViewer_V2").mkdir(parents=True)
    (folder / "BU_WrlViewer_V2" / "readme.txt").write_text("not a person\n")
    truth = {}
    for index, name in enumerate(subjects):
        rng = np.random.default_rng([seed, index])
        identity = 0.6 * model.sample_identity(rng)
        # Pale and short-haired, evenly lit: Haar must find every frame, and these tests are about something else.
        appearance = sample_appearance(rng)._replace(melanin=0.2, hair_style=1, beard=0.0)
        scene_subject = SceneSubject(context, identity, appearance)
        neutral = sample_view(rng, np.zeros(len(model.expression)))
        neutral = neutral._replace(pose=np.zeros(6, np.float32), distance=np.float32(DISTANCE), grain=np.float32(1),
                                   light_direction=np.array([0.3, 0.5, 0.81], np.float32))
        for expression in expressions:
            target = 0.5 * model.sample_expression(rng)
            (folder / name / expression).mkdir(parents=True)
            for frame in range(frames):
                strength = max(frame - 1, 0) / max(frames - 2, 1)       # the first two frames are neutral
                view = neutral._replace(expression=(strength * target).astype(np.float32))
                scan = _frame(folder / name / expression / f"{frame:03d}", scene_subject, view, height, subdivided, rng)
                truth.setdefault(name, scan)
                if name in marked:
                    shape = model.shape(identity, view.expression)
                    write_bnd(folder / name / expression / f"{frame:03d}.bnd", bu_points(model.landmarks(shape)), scan)
    return truth


def _frame(path: Path, scene_subject: SceneSubject, view: View, height: int, subdivided: bool,
           rng: np.random.Generator) -> np.ndarray:
    model, width = scene_subject.context.model, round(height * 1040 / 1392)
    camera = view_camera(view)._replace(width=width, height=height, focal=height * 3.1,
                                        centre=(width / 2, height / 2))
    cv2.imwrite(str(path.with_suffix(".jpg")), scene_subject.set(view).render(camera, smooth=False))
    vertices = model.shape(scene_subject.identity, view.expression)
    triangles = model.triangles[model.region("skin")]
    if subdivided:
        vertices = model.subdivide(vertices)
        triangles = model.subdivided_triangles[model.region("skin", subdivided=True)]
    corners = vertices[triangles]
    front = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0
    triangles = triangles[front & (corners[:, :, 2].min(axis=1) > vertices[:, 2].mean())]
    used, triangles = np.unique(triangles, return_inverse=True)
    vertices = vertices[used]
    projected = camera.project(vertices)
    uv = np.stack([projected.x / width, 1 - projected.y / height], axis=1)
    strays = np.concatenate([rng.uniform(-150, 150, (UNREFERENCED, 2)), np.full((UNREFERENCED, 1), 400.0)], axis=1)
    write_wrl(path.with_suffix(".wrl"), np.concatenate([vertices, strays]), uv, triangles.reshape(-1, 3))
    return vertices


def write_wrl(path: Path, vertices: np.ndarray, uv: np.ndarray | None, triangles: np.ndarray) -> None:
    """VRML 2 text as BU-4DFE has it: (V, 3) mm, (U, 2) in [0, 1], (F, 3); the texture is the .jpg beside it."""
    def rows(array: np.ndarray, form: str) -> str:
        return "\n".join(form % tuple(row) for row in array)
    texture = "" if uv is None else f"""
        texCoord TextureCoordinate {{ point [
{rows(uv, "%.6f %.6f,")}
        ] }}
        texCoordIndex [
{rows(triangles, "%d, %d, %d, -1,")}
        ]"""
    path.write_text(f"""#VRML V2.0 utf8
# written for a test
Shape {{
    appearance Appearance {{ texture ImageTexture {{ url "{path.stem}.jpg" }} }}
    geometry IndexedFaceSet {{
        coord Coordinate {{ point [
{rows(vertices, "%.5f %.5f %.5f,")}
        ] }}
        coordIndex [
{rows(triangles, "%d, %d, %d, -1,")}
        ]{texture}
    }}
}}
""")


def bu_points(landmarks: np.ndarray) -> np.ndarray:
    """83 points (83, 3) as BU-4DFE lays them out, made from the 68 (68, 3): loops begin at the subject's outer eye
    corner or brow end, or at his right mouth corner, and go over the top."""
    def along(numbers: tuple[int, ...], count: int) -> np.ndarray:
        line = landmarks[list(numbers)]
        length = np.append(0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1)))
        return np.stack([np.interp(np.linspace(0, length[-1], count), length, c) for c in line.T], 1)

    def lids(a: int, u: int, v: int, b: int, w: int, x: int) -> np.ndarray:
        return np.concatenate([along((a, u, v, b), 5), along((b, w, x, a), 5)[1:-1]])

    def brow(numbers: tuple[int, ...]) -> np.ndarray:
        line = along(numbers, 6)
        return np.concatenate([line[:1], line[1:-1] + (0, 2, 0), line[-1:], (line[1:-1] - (0, 2, 0))[::-1]])

    return np.concatenate([
        lids(36, 37, 38, 39, 40, 41), lids(45, 44, 43, 42, 47, 46),
        brow((17, 18, 19, 20, 21)), brow((26, 25, 24, 23, 22)),
        along((27, 31), 5)[1:4], along((27, 35), 5)[1:4], along((31, 32, 33, 34, 35), 6),
        landmarks[48:60], landmarks[60:68], landmarks[1:16]])


def write_bnd(path: Path, points: np.ndarray, scan: np.ndarray) -> None:
    """Rows `index x y z`: the nearest vertex of the scan (V, 3) to each point, and its position."""
    nearest = cKDTree(scan).query(points)[1]
    path.write_text("".join("%d %.6f %.6f %.6f\n" % (i, *scan[i]) for i in nearest))


@lru_cache(maxsize=1)
def _shared() -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory(prefix="raw_bu4dfe_")
    write_raw(Path(folder.name) / "RAW")
    return folder


def shared_raw() -> Path:
    """A RAW of three subjects, 3 frames a video, written once a process; do not change it: copy it."""
    return Path(_shared().name) / "RAW"
