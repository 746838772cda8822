"""The error of an iterative network after each pass (Endrawis 2018, figure 4)."""
from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.transforms import umeyama
from Dataset.io.images import write_image
from Dataset.representations.coefficients import POSE, decode_pose, linear, project
from Dataset.representations.pncc import built_in_unit
from Evaluation.figures.sheet import contact_row
from Evaluation.metrics.landmarks import landmark_nme
from Evaluation.reports.tables import Table
from Evaluation.views.epoch_images import TILE, coefficient_tiles

FIGURES = 4             # samples that are drawn

COLUMNS = {"vertices": "mean distance of the 4,881 vertices with their expression, head frame, as they are, mm",
           "aligned": "the same of the 256 keypoints after the best similarity, mm",
           "landmarks": "mean distance of the 68 landmarks in the crop / sqrt(w h) of the true ones' bounding box, %",
           "angle": "mean angle between true and predicted rotation, degrees"}

#: (images (B, S, S, 3), fixed poses (B, 6) or None) -> (n + 1, B, 290): the start, then the result of each pass
Run = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def errors_of(faces: np.ndarray, targets: np.ndarray, model: FaceModel | None = None) -> dict[str, np.ndarray]:
    """Coefficients of predicted and true faces (B, 290) -> the COLUMNS, (B,) float64 each."""
    model = model or load_face_model()
    found: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for face, truth in zip(np.asarray(faces, np.float32), np.asarray(targets, np.float32)):
        a, b = (linear(model, "vertices")(x).astype(float) for x in (face, truth))
        found["vertices"].append(np.linalg.norm(a - b, axis=0).mean())
        a, b = (linear(model, "keypoints")(x).T.astype(float) for x in (face, truth))
        found["aligned"].append(np.linalg.norm(umeyama(a, b).apply(a) - b, axis=1).mean())
        a, b = (project(x, "landmarks", model=model) for x in (face, truth))
        found["landmarks"].append(landmark_nme(a, b))
        turn = decode_pose(face[POSE], 1).rotation @ decode_pose(truth[POSE], 1).rotation.T
        found["angle"].append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    return {name: np.array(values) for name, values in found.items()}


def iteration_table(run: Run, samples: Iterable[tuple[np.ndarray, np.ndarray]], title: str,
                    model: FaceModel | None = None, figures: str | None = None) -> Table:
    """Error after each pass, from the mean face on, with the predicted pose and with the true pose.

    run      the iterative network
    samples  batches of images (B, S, S, 3) float32 in [0, 1] and true coefficients (B, 290)
    figures  a folder for an image of each of the first samples, as figure 3 shows them: the image, PNCC and normals of
             the last pass's input, the true face, the prediction; None: none
    ValueError for no sample.
    """
    sums: dict[str, list[dict[str, np.ndarray]]] = {"free": [], "held": []}
    count, moved = 0, []
    for images, targets in samples:
        for how, poses in (("free", None), ("held", targets[:, POSE])):
            faces = run(images, poses)
            sums[how].append([errors_of(faces_of_pass, targets, model) for faces_of_pass in faces])
            if how == "free":
                keypoints = np.array([[project(face, model=model) for face in batch] for batch in faces])
                moved.append(np.sqrt((np.diff(keypoints, axis=0) ** 2).sum(-1).mean(-1)))
                if figures and not count:
                    _draw(figures, images, faces, targets)
        count += len(images)
    if not count:
        raise ValueError(f"{title}: at least one image is needed, got none")
    changes = np.concatenate(moved, axis=1).mean(1)
    rows = []
    for number in range(len(sums["free"][0])):
        row = [number]
        for how, names in (("free", list(COLUMNS)), ("held", ["vertices", "aligned"])):
            row += [float(np.concatenate([batch[number][name] for batch in sums[how]]).mean()) for name in names]
        rows.append([*row, float(changes[number - 1]) if number else None])
    notes = [f"{name}: {what}" for name, what in COLUMNS.items()]
    notes += ["true pose: the pose is the true one in every pass; pass 0 is the mean face without expression",
              "change: RMS movement of the 256 keypoints by a pass, normalised coordinates of the crop"]
    columns = ["passes", *COLUMNS, "vertices, true pose", "aligned, true pose", "change"]
    return Table(f"{title}: {count} images", columns, rows, notes, digits=4)


def _draw(folder: str, images: np.ndarray, faces: np.ndarray, targets: np.ndarray) -> None:
    """Figure 3 of the first samples of a batch; faces: (n + 1, B, 290)."""
    unit, size = built_in_unit(), images.shape[1]
    for number, image in enumerate(images[:FIGURES]):
        before = faces[max(len(faces) - 2, 0), number]
        drawn = np.concatenate([image, unit(before, size)], -1)
        tiles = coefficient_tiles(drawn, faces[-1, number], targets[number])
        write_image(Path(folder) / f"sample {number + 1}.png", contact_row(tiles, TILE))
