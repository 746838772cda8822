"""The image of a view, drawn photo by photo and written beside a face."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from Dataset.io.images import write_image


class ViewFile:
    """`image` (H, W, 3) uint8 BGR is the view as it stands; None before there is one."""

    views: tuple[str, ...] = ()             # that a class draws
    missing = "no view was drawn yet"       # message where there is none

    def __init__(self, view: str) -> None:
        if view not in self.views:
            raise ValueError(f"view must be one of {', '.join(self.views)}, got {view!r}")
        self.view = view
        self.reset()

    def reset(self) -> None:
        """Forget the photos: the next one is another subject's."""
        self.image: np.ndarray | None = None

    def draw_in(self, whole: np.ndarray, box: tuple[int, int, int, int], photo: np.ndarray, reading: Any) -> np.ndarray:
        """`draw` of photo and reading; where a view is drawn into the whole image (H, W, 3) uint8 BGR, of which the
        network saw the box (x, y, w, h), that. -> the view."""
        return self.draw(photo, reading)

    def draw(self, photo: np.ndarray, reading: Any) -> np.ndarray:
        """Draw one photo; each view implements it."""
        raise NotImplementedError

    def require(self) -> None:
        """ValueError where no view was drawn."""
        if self.image is None:
            raise ValueError(self.missing)

    def target(self, path: Path) -> Path:
        """The file of the view of the face at `path`."""
        return path.with_name(f"{path.stem}_{self.view}.png")

    def beside(self, path: Path) -> list[Path]:
        """What `write` writes beside the image: the view's numbers, where it has some."""
        return []

    def write(self, path: Path) -> Path:
        """Write the last view beside the face at `path` -> the view's path. ValueError before there is one."""
        self.require()
        write_image(self.target(path), self.image)
        return self.target(path)
