"""A tiny folder in AFLW2000-3D's layout: rendered subjects whose landmarks and turns are known."""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np
import scipy.io

from Dataset.face_model.model import load_face_model
from Dataset.io.images import write_image
from Dataset.synthesis.scene import RenderContext, SceneSubject, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance


class Truth(NamedTuple):
    """landmarks (68, 3): x, y px of our convention, z px towards the camera; yaw in degrees."""

    landmarks: np.ndarray
    yaw: float


def write_folder(folder: Path, yaws: Sequence[float], size: int = 240, seed: int = 0) -> list[Truth]:
    """image00000.jpg, image00000.mat ... of the yaws."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_face_model()
    context = RenderContext(model, threads=1)
    targets = []
    for number, yaw in enumerate(yaws):
        rng = np.random.default_rng([seed, number])
        scene_subject = SceneSubject(context, model.sample_identity(rng), sample_appearance(rng))
        view = sample_view(rng, 0.5 * model.sample_expression(rng), angles=np.array([yaw, 3.0, -2.0]))
        view = view._replace(distance=np.float32(1600), focal=np.float32(view.focal * 1600 / view.distance))
        posed, camera = scene_subject.set(view), view_camera(view).crop((0, 0, 144, 144), size)
        write_image(folder / f"image{number:05d}.jpg", posed.render(camera))
        marks = posed.landmarks()
        seen = camera.project(marks)
        depth = camera.focal / float(np.mean(seen.depth)) * (marks[:, 2] + 37.0)
        targets.append(Truth(np.stack([seen.x, seen.y, depth], 1), yaw))
        write_mat(folder / f"image{number:05d}.mat", targets[-1].landmarks, yaw)
    return targets


def write_mat(path: Path, landmarks: np.ndarray, yaw: float, **more: np.ndarray) -> None:
    """MATLAB's pixels are half a pixel larger than ours."""
    matlab = np.asarray(landmarks, float).T.copy()
    matlab[:2] += 0.5
    pose = np.array([[0.05, np.radians(yaw), 0.0, 100, 100, 0, 1e-3]])
    scipy.io.savemat(path, {"pt3d_68": matlab, "Pose_Para": pose, "Shape_Para": np.zeros((199, 1)), **more})
