"""Training images as memory-mapped shards: `python -m Dataset.shards`, which documents the folder.

A shard is made by `Dataset.io.work_folder`, so that a kill at any moment, or another machine, does no harm.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.io.atomic import folder_lock, write_text
from Dataset.io.images import tiled, write_image
from Dataset.io.json_files import read_json
from Dataset.io.work_folder import Made, Progress, make_folders, read_mark, require_new
from Dataset.io.workers import check_workers
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import RenderOptions, layout, render_subject
from Dataset.synthesis.sidecar import annotation_hash, model_hash

__all__ = ["Shards", "contact_sheet", "finalise", "make_part", "make_shards", "open_shards", "part_of",
           "shard_count"]

VERSION = 2             # in version 1 the first image's pose used the random stream of the subject
SUBJECTS = 16             # per shard
MAX_FILES = 1 << 15     # open in one process
INFO, SHEET, MANIFEST = "shards.json", "sheet.jpg", "manifest.json"


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
    count = shard_count(options)
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
        made = _make(out, options, range(shard_count(options)), workers, progress, shared=False)
        _finish(out, options, made.reports)
    return len(made.names)


def part_of(part: int, parts: int, options: RenderOptions) -> range:
    """Numbers of the shards of part 1 to `parts`. ValueError for another part."""
    if not 1 <= part <= parts <= 10**6:
        raise ValueError(f"part must be K/N with K from 1 to N and N at most 1000000, got {part}/{parts}")
    count = shard_count(options)
    return range(count * (part - 1) // parts, count * part // parts)


def make_part(out: str | os.PathLike[str], options: RenderOptions, numbers: range, workers: int = 1,
              progress: Progress | None = None) -> int:
    """Render those of the shards `numbers` that are missing -> their number. Any machine may make any part of OUT, at
    the same time, in any order and twice: nobody locks, work folders are private, and whole shards appear by a rename.
    `finalise` then makes a set of them. ValueError as `make_shards`."""
    check_workers(workers)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _check_begun(out, options)
    return len(_make(out, options, numbers, workers, progress, shared=True).names)


def finalise(out: str | os.PathLike[str]) -> int:
    """Make a whole set of the parts of OUT -> its number of subjects. ValueError, naming the first, where a shard is
    missing, damaged, or of other settings or another version than OUT's; then nothing is written."""
    out = Path(out)
    data = _read_info(out)
    if data is None:
        raise ValueError(f"{out}: not a folder of shards (no {INFO})")
    options = _options(out, data)
    names = [_name(number) for number in range(shard_count(options))]
    marks = {name: read_mark(out / name) for name in names}
    missing = [name for name in names if marks[name] is None]
    if missing:
        raise ValueError(f"{out}: {len(missing)} of {len(names)} shards are missing or damaged, the first is "
                         f"{missing[0]}; make its part again")
    reports = {name: mark["report"] for name, mark in marks.items() if mark}
    wanted = _made_with(options)
    other = [name for name in names if not reports[name] or reports[name]["made"] != wanted]
    if other:
        raise ValueError(f"{out}: {other[0]} was made with other settings or by another version; delete it, and make "
                         "its part again")
    _finish(out, options, reports)
    return options.subjects


def _make(out: Path, options: RenderOptions, numbers: range, workers: int, progress: Progress | None, shared: bool
          ) -> Made:
    jobs = {_name(number): (number, options) for number in numbers}
    return make_folders(out, _make_shard, jobs, workers, progress, shared=shared,
                        begin=lambda: _write_info(out, options, complete=False))


def _finish(out: Path, options: RenderOptions, reports: dict[str, dict[str, Any]]) -> None:
    """The files that make a whole set of all shards; `shards.json` comes last."""
    shards = []
    for number in range(shard_count(options)):
        subjects, report = _subject_numbers(number, options), reports[_name(number)]
        if not report:      # made before there were reports
            report = {"sha256": _hashed({name: np.load(_file(out, number, name)) for name in layout(options)})}
        shards.append({"name": _name(number), "subjects": [subjects[0], subjects[-1]], "sha256": report["sha256"]})
    whole = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
    write_text(out / MANIFEST, json.dumps({"subjects": options.subjects, "sha256": whole, **_made_with(options),
                                           "shards": shards}, indent=1) + "\n")
    write_image(out / SHEET, contact_sheet(out, options))
    _write_info(out, options, complete=True)


def _made_with(options: RenderOptions) -> dict[str, Any]:
    """What the bytes of a shard depend on, beside its subjects, as JSON gives it back."""
    settings = {name: value for name, value in options.written().items() if name != "subjects"}
    return json.loads(json.dumps({"version": VERSION, "settings": settings, "model": model_hash(load_face_model()),
                                  "annotations": annotation_hash(load_face_model())}))


def contact_sheet(out: Path, options: RenderOptions, columns: int = 5, side: int = 200) -> np.ndarray:
    """Up to 25 images: of the first subjects one each, more where there are fewer subjects."""
    shards = Shards(out, options, [n for n in range(min(shard_count(options), 2))])
    each = min(-(-columns ** 2 // len(shards)), options.images)
    tiles = [cv2.resize(shards.gather("images", [p], [[k]])[0, 0], (side, side), interpolation=cv2.INTER_AREA)
             for p in range(min(len(shards), columns ** 2)) for k in range(each)][:columns ** 2]
    return tiled(tiles, columns)


def _make_shard(folder: Path, job: tuple[int, RenderOptions]) -> dict[str, Any]:
    """-> what it was made with, and `_hashed` of its arrays."""
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
    return {"made": _made_with(options), "sha256": _hashed(arrays)}


def _hashed(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 (hex) of arrays in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return digest.hexdigest()


def _name(number: int) -> str:
    return f"shard_{number:05d}"


def shard_count(options: RenderOptions) -> int:
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
        grows = field.name == "subjects" and now > was and was % SUBJECTS == 0
        if was != now and not grows:
            raise ValueError(f"{out}: was begun with {field.name} {was}, now it is {now}; name another folder")


def _write_info(out: Path, options: RenderOptions, complete: bool) -> None:
    data = {**_made_with(options), "settings": options.written(), "complete": complete}
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


def _check_types(settings: dict[str, Any]) -> None:
    """ValueError for a setting of `RenderOptions` that JSON holds as another type."""
    for field in dataclasses.fields(RenderOptions):
        value = settings.get(field.name, field.default)
        kind, word = {int: (int, "a whole number"), float: ((int, float), "a number"), str: (str, "text"),
                      tuple: ((list, tuple), "a list of names")}[type(field.default)]
        if not isinstance(value, kind) or isinstance(value, bool) or kind == (list, tuple) \
                and not all(isinstance(one, str) for one in value):
            raise ValueError(f"{field.name} must be {word}, received {str(value)[:40]}")


def _options(path: Path, data: dict[str, Any]) -> RenderOptions:
    """The settings, checked; ValueError if they are none, or of another face model."""
    try:
        settings = dict(data["settings"])
        _check_types(settings)
        options = RenderOptions(**{**settings, "buffers": tuple(settings["buffers"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / INFO}: its settings are none of this version ({error})") from None
    if data.get("model") != model_hash(load_face_model()):
        raise ValueError(f"{path / INFO}: made with another face model")
    if data.get("annotations", annotation_hash(load_face_model())) != annotation_hash(load_face_model()):
        raise ValueError(f"{path / INFO}: made with a face model of other landmarks, grid or texture coordinates")
    return options
