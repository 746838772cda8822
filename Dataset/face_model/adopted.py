"""Adopted face models: FILE.adopted.npz beside FILE, and the hash that ties the one to the other.

`python -m Dataset.adopt FILE` writes them (Dataset/fitting/adopt.py).
"""
from __future__ import annotations

import hashlib
from pathlib import Path

from Dataset.io.archives.npz import read_npz
from Dataset.io.archives.regular import check_regular

BUILT_IN = Path(__file__).parent / "assets" / "face.npz"
ENDING = ".adopted.npz"
VERSION = 1             # of adopted files; files of another version are refused


def adopted_path(path: str | Path) -> Path:
    """Where the adopted model of a Basel, FLAME or ICT-FaceKit file (or folder) is stored: FILE.adopted.npz."""
    path = Path(path)
    return path.with_name(path.name + ENDING)


def find_adopted(path: str | Path) -> Path:
    """The adopted model of this very file. ValueError, one line that names the file and the command to run, where there
    is none, or where it was made of another file or by another version."""
    path, beside = Path(path), adopted_path(path)
    mark = source_hash(path)
    if not beside.is_file():
        raise ValueError(f"{path}: not a face model of this program (.npz), and no {beside.name} beside it; "
                         f"run python -m Dataset.adopt {path}")
    try:
        same = str(read_npz(beside, what="adopted face model", names=("adopted",)).get("adopted")) == mark
    except ValueError as error:
        raise ValueError(f"{error}; run python -m Dataset.adopt {path}") from None
    if not same:
        raise ValueError(f"{beside}: made of another file than {path}, or by another version; "
                         f"run python -m Dataset.adopt {path}")
    return beside


def source_hash(path: Path) -> str:
    """SHA-256 (hexadecimal) over the version, the built-in model's file, and the other model's file (or the .obj files
    of its folder) with its landmark files. ValueError if the file does not exist, or one cannot be read."""
    digest = hashlib.sha256(f"{VERSION} ".encode() + BUILT_IN.read_bytes())
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    try:
        for file in (*(sorted(path.glob("[!.]*.obj")) if path.is_dir() else [path]),
                     *sorted(path.parent.glob(f"{path.name}.landmarks.*"))):
            check_regular(file)
            digest.update(f"{file.name} {file.stat().st_size}".encode())
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    except OSError as error:        # a loop of links, or no right to read
        raise ValueError(f"{error.filename or path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()
