"""Training images as memory-mapped shards:  python -m Dataset.shards OUT --subjects 8000 --images 8 --size 128

Renders subjects of the built-in face (see Dataset/synthesis/renders.py) into

    OUT/shards.json                 version, settings, hash of the face model, complete
    OUT/shard_00000/<name>.npy      16 subjects each: (P, ...) arrays as `Dataset.synthesis.renders.layout` lists them
    OUT/sheet.jpg                   images of the first subjects, to look at

After a kill the same command continues with the missing shards (Dataset/io/work_folder.py). The bytes do not depend on
--workers.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from Dataset.face_model.model import load_face_model, use_face_model
from Dataset.io.atomic import folder_lock, write_text
from Dataset.io.command import one_line
from Dataset.io.flags import add_fields, fields_of
from Dataset.io.images import write_image
from Dataset.io.json_files import read_json
from Dataset.io.work_folder import Progress, make_folders, require_new
from Dataset.io.workers import check_workers
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import BUFFERS, POSES, TEXTURES, RenderOptions, layout, render_subject
from Dataset.synthesis.sidecar import annotation_hash, model_hash

__all__ = ["Shards", "contact_sheet", "make_shards", "open_shards"]

VERSION = 2             # in version 1 the first image's pose used the random stream of the subject
SUBJECTS = 16             # per shard
MAX_FILES = 1 << 15     # open in one process
INFO, SHEET = "shards.json", "sheet.jpg"


class Shards:
    """A folder of shards, read through memory maps.

    len(shards): subjects; images: of each; size: side of a crop, px; settings: of the rendering; names: of the arrays;
    subjects (len,) int64: their numbers: 0, 1, 2 ..., with gaps in an unfinished set.
    """

    def __init__(self, path: Path, options: RenderOptions, numbers: list[int]):
        self.path, self.settings, self.images, self.size = path, options, options.images, options.size
        self.names = tuple(layout(options))
        self._numbers = numbers
        for number in numbers:
            _check_shard(path, number, options)
        # A memory map keeps its file open, so their number is limited.
        self._map = lru_cache(maxsize=_file_limit() // 2)(self._open)
        self.subjects = np.array([n for number in numbers for n in _subject_numbers(number, options)], np.int64)
        self._starts = np.cumsum([0] + [len(_subject_numbers(number, options)) for number in numbers])

    def __len__(self) -> int:
        return len(self.subjects)

    def arrays(self, name: str) -> list[np.ndarray]:
        """The memory maps (P, ...) of one array, shard by shard; each keeps a file open as long as it lives. ValueError
        for a name that is not in `names`."""
        self._check_name(name)
        return [self._map(shard, name) for shard in range(len(self._numbers))]

    def gather(self, name: str, subjects: np.ndarray, images: np.ndarray | None = None) -> np.ndarray:
        """One array's rows for subjects (N,), indices 0 to len - 1: (N, ...); with images (N,) or (N, K), one or K
        images of each: (N, ...) or (N, K, ...). A copy. ValueError for an index out of range."""
        self._check_name(name)
        subjects = np.asarray(subjects, np.int64)
        images = None if images is None else np.asarray(images, np.int64)
        if subjects.size and not 0 <= subjects.min() <= subjects.max() < len(self):
            raise ValueError(f"{self.path}: subjects are 0 to {len(self) - 1}, "
                             f"received {subjects.min()} to {subjects.max()}")
        if images is not None and images.size and not 0 <= images.min() <= images.max() < self.images:
            raise ValueError(f"{self.path}: images are 0 to {self.images - 1}, "
                             f"received {images.min()} to {images.max()}")
        shards = np.searchsorted(self._starts, subjects, side="right") - 1
        rows = [self._map(int(s), name)[p - self._starts[s]] for s, p in zip(shards, subjects)]
        if images is not None:
            rows = [row[k] for row, k in zip(rows, images)]
        shape, dtype = layout(self.settings)[name]
        shape = shape if images is None else images.shape[1:] + shape[1:]
        return np.stack(rows) if rows else np.zeros((0, *shape), dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.path, self.settings, self._numbers)        # another process opens the files again

    def _check_name(self, name: str) -> None:
        if name not in self.names:
            raise ValueError(f"{self.path}: holds {', '.join(self.names)}, received {name}")

    def _open(self, shard: int, name: str) -> np.ndarray:
        """Not np.load, which parses the header with `ast`: CPython 3.11's is not safe among threads ("AST constructor
        recursion depth mismatch"). `_check_shard` has read the header; the array is the file's end."""
        number = self._numbers[shard]
        file, (shape, dtype) = _file(self.path, number, name), layout(self.settings)[name]
        shape = (len(_subject_numbers(number, self.settings)), *shape)
        offset = file.stat().st_size - dtype.itemsize * int(np.prod(shape))
        return np.memmap(file, dtype, "r", offset, shape)


def open_shards(path: str | os.PathLike[str], partial: bool = False) -> Shards:
    """Open a folder of shards; partial: also the complete shards of an unfinished set.

    ValueError, one line, if it is no such folder, of another version, unfinished, empty, or has a shard with a
    missing or wrong array.
    """
    path = Path(path)
    data = _read_info(path)
    if data is None:
        raise ValueError(f"{path}: {f'not a folder of shards (no {INFO})' if path.exists() else 'no such folder'}")
    options = _options(path, data)
    if not data["complete"] and not partial:
        raise ValueError(f"{path}: unfinished; run Dataset.shards again with the same settings")
    count = _shard_count(options)
    numbers = [n for n in range(count) if (path / _name(n)).is_dir()]
    if len(numbers) < count and not partial:
        raise ValueError(f"{path}: {_name(next(n for n in range(count) if n not in numbers))} is missing")
    if not numbers:
        raise ValueError(f"{path}: holds no whole shard yet")
    return Shards(path, options, numbers)


def make_shards(out: str | os.PathLike[str], options: RenderOptions, workers: int = 1,
                progress: Progress | None = None) -> int:
    """Render the missing shards -> their number. The bytes do not depend on ``workers``.

    ValueError: OUT was made with other settings, holds something else, or another process is writing there. Else as
    `Dataset.io.work_folder.make_folders`.
    """
    check_workers(workers)
    out = Path(out)
    with folder_lock(out):
        _check_begun(out, options)
        jobs = {_name(number): (number, options) for number in range(_shard_count(options))}
        made = make_folders(out, _make_shard, jobs, workers, progress,
                            begin=lambda: _write_info(out, options, complete=False))
        write_image(out / SHEET, contact_sheet(out, options))
        _write_info(out, options, complete=True)
    return len(made.names)


def contact_sheet(out: Path, options: RenderOptions, columns: int = 5, side: int = 200) -> np.ndarray:
    """Up to 25 images: of the first subjects one each, more where there are fewer subjects."""
    shards = Shards(out, options, [n for n in range(min(_shard_count(options), 2))])
    each = min(-(-columns ** 2 // len(shards)), options.images)
    tiles = [cv2.resize(shards.gather("images", [p], [[k]])[0, 0], (side, side), interpolation=cv2.INTER_AREA)
             for p in range(min(len(shards), columns ** 2)) for k in range(each)][:columns ** 2]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)])


def _make_shard(folder: Path, job: tuple[int, RenderOptions]) -> None:
    number, options = job
    numbers = _subject_numbers(number, options)
    arrays = {name: np.empty((len(numbers), *shape), dtype) for name, (shape, dtype) in layout(options).items()}
    for row, subject in enumerate(numbers):
        for name, value in render_subject(subject, options, render_context()).items():
            arrays[name][row] = value
    for name, value in arrays.items():
        with open(folder / f"{name}.npy", "wb") as file:
            np.save(file, value, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())


def _name(number: int) -> str:
    return f"shard_{number:05d}"


def _shard_count(options: RenderOptions) -> int:
    return -(-options.subjects // SUBJECTS)


def _subject_numbers(number: int, options: RenderOptions) -> range:
    return range(number * SUBJECTS, min((number + 1) * SUBJECTS, options.subjects))


def _file(path: Path, number: int, name: str) -> Path:
    return path / _name(number) / f"{name}.npy"


def _file_limit() -> int:
    """How many files this process may have open."""
    try:
        import resource
    except ImportError:         # Windows
        return 512
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_FILES if limit == resource.RLIM_INFINITY else max(min(limit, MAX_FILES), 128)


def _check_shard(path: Path, number: int, options: RenderOptions) -> None:
    """ValueError, with the file's name, if a shard is not complete."""
    count = len(_subject_numbers(number, options))
    for name, (shape, dtype) in layout(options).items():
        file = _file(path, number, name)
        try:
            found = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            reason = "missing" if not file.is_file() else f"no whole .npy file ({' '.join(str(error).split())[:120]})"
            raise ValueError(f"{file}: {reason}; run Dataset.shards again with the same settings") from None
        if found.shape != (count, *shape) or found.dtype != dtype:
            raise ValueError(f"{file}: must be {(count, *shape)} {dtype}, received {found.shape} {found.dtype}")


def _check_begun(out: Path, options: RenderOptions) -> None:
    """ValueError if OUT cannot take these shards; leaves it as it is."""
    data = _read_info(out)
    if data is None:
        return require_new(out)
    begun = _options(out, data)
    for field in dataclasses.fields(options):
        was, now = getattr(begun, field.name), getattr(options, field.name)
        if was != now:
            raise ValueError(f"{out}: was begun with {field.name} {was}, now it is {now}; name another folder")


def _write_info(out: Path, options: RenderOptions, complete: bool) -> None:
    data = {"version": VERSION, "settings": options.written(), "model": model_hash(load_face_model()),
            "annotations": annotation_hash(load_face_model()), "complete": complete}
    write_text(out / INFO, json.dumps(data, indent=1) + "\n")


def _read_info(path: Path) -> dict[str, Any] | None:
    file = path / INFO
    if not file.is_file():
        return None
    data = read_json(file)
    if not isinstance(data.get("complete"), bool):
        raise ValueError(f"{file}: not a description of shards")
    if data.get("version") != VERSION:
        raise ValueError(f"{file}: version {VERSION} is needed, received {data.get('version')}")
    return data


def _options(path: Path, data: dict[str, Any]) -> RenderOptions:
    """The settings, checked; ValueError if they are none, or of another face model."""
    try:
        settings = dict(data["settings"])
        options = RenderOptions(**{**settings, "buffers": tuple(settings["buffers"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / INFO}: its settings are none of this version ({error})") from None
    if data.get("model") != model_hash(load_face_model()):
        raise ValueError(f"{path / INFO}: made with another face model")
    if data.get("annotations", annotation_hash(load_face_model())) != annotation_hash(load_face_model()):
        raise ValueError(f"{path / INFO}: made with a face model of other landmarks, grid or texture coordinates")
    return options


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser(prog="python -m Dataset.shards", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--face-model", metavar="FILE", help="Basel, FLAME or ICT-FaceKit instead of the built-in face")
    helps = {"subjects": "subjects", "images": "images of each", "size": "side of the crops, pixels",
             "seed": "of everything", "yaw": "largest, degrees", "pitch": "largest, degrees",
             "roll": "largest, degrees", "expression": "strength, 0 to 1", "margin": "growth of the detector's box",
             "detect": "fraction of images that the detector frames", "clutter": "fraction with a cluttered background",
             "glasses": "fraction with glasses", "skins": "fraction of the subjects with photographed skin",
             "texture": f"of everything: {', '.join(TEXTURES)}", "poses": f"{', '.join(POSES)}: half near the front, "
             "or normal with 99.9 per cent within the angles", "shift": "of the frame, normal: 99.9 per cent within "
             "this fraction of its side", "open_mouths": "fraction of the images; -1: as expressions are drawn"}
    add_fields(parser, RenderOptions, helps)
    parser.add_argument("--buffers", default="", help=f"comma-separated, of {','.join(BUFFERS)} (default none)")
    arguments = parser.parse_args(argv)
    options = fields_of(RenderOptions, arguments)
    options["buffers"] = tuple(name for name in arguments.buffers.split(",") if name)
    return arguments, options


@one_line("Dataset.shards", resumable=True)
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    from tqdm import tqdm

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments, options = parse(argv)
    use_face_model(arguments.face_model)
    make_shards(arguments.out, RenderOptions(**options), arguments.workers,
                lambda results, total: tqdm(results, total=total, unit="shard", disable=None))
    print(f"{arguments.out}: {options['subjects']} subjects, {options['subjects'] * options['images']} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
