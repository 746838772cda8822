"""Decoded images by number, kept in memory when they fit."""
from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from Dataset.io.images import crop_resize, read_image

log = logging.getLogger(__name__)

CACHES = ("auto", "uint8", "none")
#: "auto" takes at most this fraction of the free memory; a training and a validation set leave a third to the network
_SHARE = 3


class ImageStore:
    """`store[k]` -> (size, size, 3) uint8, BGR, of the k-th file; may be called from several threads.

    cache   "uint8": each image is decoded once and kept, size*size*3 bytes; ValueError if all of them exceed `limit`.
            "none": decoded at each use. "auto": "uint8" where they fit, else "none" with a logged warning.
    limit   bytes; None is a third of the memory that is free now
    resize  scale an image of another size; without it such a file is a ValueError

    `cached` tells which. Images are cached when they are first used: nothing is read at construction.
    """

    def __init__(self, paths: Sequence[Path], size: int, resize: bool = False, cache: str = "auto",
                 limit: int | None = None) -> None:
        if cache not in CACHES:
            raise ValueError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")
        self.paths, self.size, self.resize = tuple(map(Path, paths)), size, resize
        need = len(self.paths) * size * size * 3
        limit = free_memory() // _SHARE if limit is None else limit
        self.cached = cache != "none" and need <= limit
        if cache != "none" and not self.cached:
            message = (f"{len(self.paths)} images of {size}x{size} need {need / 1e6:.1f} MB of memory, the limit is "
                       f"{limit / 1e6:.1f} MB")
            if cache == "uint8":
                raise ValueError(f"cache 'uint8': {message} (cache_limit); 'auto' would decode them at each use")
            log.warning("images are decoded at each use: %s", message)
        # np.empty takes no memory until a page is written
        self._images = np.empty((len(self.paths), size, size, 3) if self.cached else (0, size, size, 3), np.uint8)
        self._filled, self._passed = np.zeros((2, len(self.paths)), bool)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> np.ndarray:
        if not self.cached:
            return self._read(k)
        if not self._filled[k]:         # two threads that meet here write the same bytes
            self._images[k] = self._read(k)
            self._filled[k] = True
        return self._images[k]

    def _read(self, k: int) -> np.ndarray:
        path = self.paths[k]
        # read_image looks into the header first; a JPEG that passed once is read again without it, 10 % faster
        image = cv2.imread(str(path)) if self._passed[k] else None
        if image is None:
            image = read_image(path)
            self._passed[k] = path.suffix.lower() in (".jpg", ".jpeg")
        height, width = image.shape[:2]
        if (height, width) == (self.size, self.size):
            return image
        if not self.resize:
            raise ValueError(f"{path}: an image must be {self.size}x{self.size} pixels (image_size; resize "
                             f"would scale it), this is {width}x{height}")
        return crop_resize(image, (0, 0, width, height), self.size, "area")


def free_memory() -> int:
    """Bytes that can be taken without swapping, the limit of a container (cgroup 2) kept; 1 GiB where none can tell."""
    free = []
    try:
        with open("/proc/meminfo") as file:
            free += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:      # macOS: half of what is built in
            free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        free += [] if limit == "max" else [max(int(limit) - int(used), 0)]
    except (OSError, ValueError):
        pass
    return min(free, default=2**30)
