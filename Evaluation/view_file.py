"""The picture of a view, drawn photo by photo and written beside a face."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from Dataset.images import write_image


class ViewFile:
    """`picture` (H, W, 3) uint8 BGR is the view as it stands; None before there is one."""

    view: str
    picture: np.ndarray | None = None

    def target(self, path: Path) -> Path:
        """Where the view of the face at `path` goes."""
        return path.with_name(f"{path.stem}_{self.view}.png")

    def write(self, path: Path) -> Path:
        """Write the last view beside the face at `path` -> its own path. ValueError before there is one."""
        if self.picture is None:
            raise ValueError(f"{path}: no view was drawn yet")
        write_image(self.target(path), self.picture)
        return self.target(path)
