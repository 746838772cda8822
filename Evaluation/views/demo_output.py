"""The files of `demo.py` for photos: each face, its preview, its view, numbered where there are several."""
from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Callable, Protocol, Sequence

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.atomic import all_or_none
from Dataset.io.marks import mark
from Evaluation.figures.preview import Panel, panel_of, write_preview
from Evaluation.views.registry import Viewer

PREVIEWED = 4           # photos in a preview: the last ones


class Written(Protocol):
    """The mesh that was written, and the files' paths; its texture and its vertices in the last photo, as
    `Evaluation.figures.preview.preview` takes them, or None."""

    mesh: Mesh
    paths: Sequence[Path]
    texture: np.ndarray | None
    in_photo: np.ndarray | None


class PhotoOutput:
    """`show` photo by photo, then `write`, or at last `finish`. `count`: photos with a face.

    write    path -> the written files: writes the current face
    viewer   draws the prediction for each photo; None: no view
    refuse   path -> None, or ValueError where writing there would replace an input
    """

    def __init__(self, path: Path, write: Callable[[Path], Written], viewer: Viewer | None,
                 refuse: Callable[[Path], None]) -> None:
        refuse(path)
        self._path, self._write, self._viewer, self._refuse, self.count = path, write, viewer, refuse, 0
        self._photos: deque[Panel] = deque(maxlen=PREVIEWED)      # not whole: some have 100 megapixels

    def reset(self, views: bool) -> None:
        """Photos of another subject follow; views: reset the view, too."""
        self._photos.clear()
        if views and self._viewer:
            self._viewer.file.reset()

    def show(self, whole: np.ndarray, box: tuple[int, int, int, int], photo: np.ndarray) -> None:
        """A photo in which a face was found, as `Viewer.draw` takes it."""
        self._photos.append(panel_of(whole))
        self.count += 1
        if self._viewer:
            self._viewer.draw(whole, box, photo)

    def write(self, numbered: bool) -> list[Path]:
        """Write the current face -> the files' paths, which appear together; numbered: with the photo's number in their
        names."""
        path = self._path
        path = path.with_name(f"{path.stem}_{self.count:02d}{path.suffix}") if numbered else path
        view = self._viewer.file if self._viewer else None
        for target in (path, *([view.target(path)] if view else [])):
            self._refuse(target)
        with all_or_none(mark):
            written, preview = self._write(path), path.with_suffix(".png")
            write_preview(preview, list(self._photos), written.mesh, written.texture, written.in_photo)
            drawn = []
            if view and view.image is not None:       # the first photo of a swap has none
                drawn = [view.write(path), *view.beside(path)]
        return [*written.paths, preview, *drawn]

    def finish(self, written: bool) -> list[Path]:
        """After the last photo -> the files' paths. written: every face is written already; else the one face is
        written now. ValueError where no photo showed a face, or no view was drawn."""
        if not self.count:
            raise ValueError("no face in any of the photos")
        if self._viewer:
            self._viewer.file.require()
        return [] if written else self.write(numbered=False)
