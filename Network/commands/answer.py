"""Photos in memory -> a face and its files in memory, for the page of `demo.py --serve`. Nothing is written."""
from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Iterable, NamedTuple

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.inputs import NamedImage
from Dataset.io.mesh_files import mesh_files
from Network.commands.results import MEAN_SIZE, face_mesh, face_morphs
from Network.engine.loaded import bundled_models, model_path
from Network.inference.base import Face, Predictor
from Network.inference.photos import NoFace
from Network.inference.registry import from_run

_DATE = (1980, 1, 1, 0, 0, 0)       # the earliest that a zip can hold: the same face gives the same bytes


class Answer(NamedTuple):
    """A face to display, its files by name, and the indices of the photos that showed none."""

    mesh: Mesh
    files: dict[str, bytes]
    skipped: list[int]


class Answers:
    """`answer = answers(images, name)`: one face from all photos of one subject. Models are loaded on first use,
    and keep nothing of a photo between two calls. One thread at a time.

    model  a model of one's own, the first of `networks`; None: the bundled ones only. ValueError when the first of
           them cannot be loaded.
    """

    def __init__(self, model: str | Path | None = None, checkpoint: str = "best_validation", engine: str | None = None
                 ) -> None:
        self._checkpoint, self._engine, self._models = checkpoint, engine, {}
        if model is not None:
            self._models[os.path.basename(os.path.realpath(model))] = model_path(model)
        for name, path in bundled_models().items():
            self._models.setdefault(name, path)
        self._predictors: dict[str, Predictor] = {}
        self.load(next(iter(self._models)))

    @property
    def networks(self) -> dict[str, str]:
        """Name -> what a visitor reads of it."""
        box = bundled_models()
        return {name: "bundled weights" if box.get(name) == path else "the model named by --model"
                for name, path in self._models.items()}

    def load(self, name: str) -> Predictor:
        """The model `name`, ready. ValueError when it is none, or cannot be read."""
        if name not in self._models:
            raise ValueError(f"network must be one of {', '.join(self._models)}, got {name!r}")
        if name not in self._predictors:
            self._predictors[name] = from_run(self._models[name], self._checkpoint, self._engine)
            self._predictors[name].source = Path(name)          # in messages: no visitor reads our paths
        return self._predictors[name]

    def __call__(self, images: Iterable[np.ndarray], name: str) -> Answer:
        """images: each (H, W, 3) uint8 BGR, upright; what is raised while the next one is taken ends the face.
        ValueError, in words for whoever took the photos, when there is none, or none of them shows a face."""
        predictor, skipped, face = self.load(name), [], None
        try:
            for i, image in enumerate(images):
                try:
                    face = predictor.add(NamedImage(f"photo {i + 1}", image))
                except NoFace:
                    skipped.append(i)
            if face is None:
                which = ", ".join(f"photo {i + 1}" for i in skipped)
                raise ValueError(f"{which}: no face found; try a larger or sharper photo" if skipped
                                 else "at least one photo is needed, got none")
            expression = predictor.count == 1
            return Answer(face_mesh(face, expression), face_files(face, expression=expression), skipped)
        finally:
            predictor.reset()


def face_files(face: Face, stem: str = "face", expression: bool = False) -> dict[str, bytes]:
    """A face as files by name: .ply with colours, .zip of an .obj with what belongs to it, and, of one with
    triangles, .glb; as `Network.commands.results.write_result` writes them."""
    mesh = face_mesh(face, expression)
    texture = None if face.texture is None else face.texture.image()
    files = mesh_files(Path(f"{stem}.ply"), mesh._replace(uv=None), None, None, MEAN_SIZE)
    obj = io.BytesIO()
    with zipfile.ZipFile(obj, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in mesh_files(Path(f"{stem}.obj"), mesh, None, texture, MEAN_SIZE).items():
            archive.writestr(zipfile.ZipInfo(path.name, _DATE), data, zipfile.ZIP_DEFLATED)
    named = {path.name: data for path, data in files.items()} | {f"{stem}.zip": obj.getvalue()}
    if len(mesh.triangles):
        glb = mesh_files(Path(f"{stem}.glb"), mesh, None, texture, MEAN_SIZE, face_morphs(face, expression))
        named |= {path.name: data for path, data in glb.items()}
    return named
