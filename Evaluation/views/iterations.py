"""What `demo.py --view` draws of the iterated coarse network: its passes, and detail from shading, before and after."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from Dataset.fitting.shape_from_shading import Detail, front_of_face, refine
from Dataset.io.atomic import write_atomic
from Dataset.rendering.shading import lambert
from Dataset.representations.pncc import RenderingUnit, built_in_unit
from Evaluation.figures.sheet import contact_row
from Evaluation.views.base import ViewFile
from Evaluation.views.detail import detail_image

VIEWS = ("iterations", "detail")
DETAIL = 256            # px: side in which relief is sought
TILE = 200              # px of an image of `iteration_image`


class CoarseViewWriter(ViewFile):
    """`Evaluation.views.uv_photos.ViewWriter` for coefficients: draws one view of each photo and writes it beside the
    face as NAME_VIEW.png; "detail" also its numbers, as NAME_detail.npz. ValueError for another view.

    NAME_detail.npz: of a square of 256 px, float32, NaN off the face: normals and coarse_normals, those before,
    (256, 256, 3), x right, y up, z to the camera; relief (256, 256) mm, how much nearer the viewer; albedo, shading
    (256, 256) of linear luminance; light (9,), `Dataset.rendering.shading.sh_basis`; box (4,): which square of the
    image it is, x, y, w, h px.
    """

    views = VIEWS

    def __init__(self, view: str, unit: RenderingUnit | None = None) -> None:
        super().__init__(view)
        self._unit = unit

    def reset(self) -> None:
        super().reset()
        self._detail: Detail | None = None
        self._box = (0, 0, 0, 0)

    def draw_in(self, whole: np.ndarray, box: tuple[int, int, int, int], photo: np.ndarray, faces: np.ndarray
                ) -> np.ndarray:
        """`draw`; the box of the whole image stands in the numbers."""
        self._box = box
        return self.draw(photo, faces)

    def beside(self, path: Path) -> list[Path]:
        """The numbers of "detail"."""
        return [self.target(path).with_suffix(".npz")] if self._detail is not None else []

    def write(self, path: Path) -> Path:
        """The image, and `beside` it the numbers -> the image's path. ValueError before there is one."""
        written = super().write(path)
        for file in self.beside(path):
            arrays = numbers(self._detail, self._box)
            write_atomic(file, lambda temporary: np.savez_compressed(temporary, **arrays))
        return written

    def draw(self, photo: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """photo (P, P, 3) uint8 BGR, the square that the network saw, finer; faces (n, 290):
        coefficients of the start and of each pass over it, or one face alone -> the view, uint8 BGR; kept to `write`.
        """
        if self.view == "iterations":
            self.image = iteration_image(photo, faces, self._unit)
        else:
            small = cv2.resize(photo, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
            face = faces[-1]
            self._detail = refine(small, face, front_of_face(face, DETAIL))
            self.image = detail_image(small, self._detail)
        return self.image


def numbers(detail: Detail, box: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """The arrays of NAME_detail.npz, by name."""
    found = {"normals": detail.normals, "coarse_normals": detail.coarse, "relief": detail.relief,
             "albedo": detail.albedo, "shading": detail.shading, "light": detail.light}
    return {**{name: np.asarray(values, np.float32) for name, values in found.items()}, "box": np.array(box, np.int64)}


def iteration_image(photo: np.ndarray, faces: np.ndarray, unit: RenderingUnit | None = None) -> np.ndarray:
    """One row per face (n, 290), the start first: the photo (P, P, 3) uint8 BGR, PNCC and normals that are the next
    pass's inputs, the face shaded, and on the photo -> (n * 220, 1000, 3) uint8 BGR."""
    unit = unit or built_in_unit()
    small = cv2.resize(photo, (TILE, TILE), interpolation=cv2.INTER_AREA)
    rows = []
    for number, face in enumerate(np.asarray(faces)):
        name = "start: the mean face" if number == 0 else f"pass {number}"
        drawn = unit(face, TILE)
        where, normals = drawn[..., :3].any(-1), drawn[..., 3:] * 2 - 1
        light = np.array([-0.35, 0.45, 0.82])
        shade = np.where(where, 0.96 * lambert(normals, light, 0.1875), 1.0)
        grey = np.repeat(np.rint(255 * shade)[..., None], 3, -1).astype(np.uint8)
        over = np.where(where[..., None], cv2.addWeighted(grey, 0.75, small, 0.25, 0), small)
        tiles = [(f"{name}: photo", small), ("PNCC", _colours(drawn[..., :3])), ("normals", _colours(drawn[..., 3:])),
                 ("face", grey), ("on the photo", over)]
        rows.append(contact_row(tiles, TILE))
    return np.vstack(rows)


def _colours(values: np.ndarray) -> np.ndarray:
    """x, y, z in [0, 1] as red, green, blue: (H, W, 3) uint8 BGR."""
    return np.clip(np.rint(255 * values[..., ::-1]), 0, 255).astype(np.uint8)
