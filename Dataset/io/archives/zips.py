"""Zip archives: sizes, ratios and names in the directory, checked before an entry is opened."""
from __future__ import annotations

import stat
import zipfile
from pathlib import PurePosixPath

MAX_ENTRIES = 10_000
MAX_RATIO = 1_100           # deflate reaches 1,032
_SLACK = 1 << 12            # bytes that an entry may have whatever its ratio


def check_zip(archive: zipfile.ZipFile, max_bytes: int) -> None:
    """ValueError, one line without the file's name: more than MAX_ENTRIES entries or more than `max_bytes` together, an
    entry that is encrypted, a link, there twice, outside the archive's folder, or larger than deflate can make it."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"has {len(entries)} entries, at most {MAX_ENTRIES} are allowed")
    size = sum(entry.file_size for entry in entries)
    if size > max_bytes:
        raise ValueError(f"unpacks to {size} bytes, at most {max_bytes} are allowed")
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("has two entries of one name")
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
            raise ValueError(f"has an entry outside its folder, {entry.filename[:60]!r}")
        if entry.flag_bits & 1 or stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"has an entry that is encrypted or a link, {entry.filename[:60]!r}")
        if entry.file_size > MAX_RATIO * entry.compress_size + _SLACK:
            raise ValueError(f"has an entry of {entry.compress_size} bytes that promises {entry.file_size}, "
                             f"{entry.filename[:60]!r}")


def read_entry(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """The bytes of an entry. ValueError without it, for more than `max_bytes`, and for an entry that is cut off."""
    if name not in archive.namelist():
        raise ValueError(f"has no {name}")
    size = archive.getinfo(name).file_size
    if size > max_bytes:
        raise ValueError(f"{name} has {size} bytes, at most {max_bytes} are allowed")
    with archive.open(name) as file:
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{name} is cut off")
    return data
