"""The program's mark in the files that it writes for a user, so that it replaces only its own.

Each format has a place for it: a comment or a field that its readers skip.
"""
from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Callable

NOTE = b"written by faces3d"        # in comments, and at the end of videos
_FIELDS = (b"Software\0faces3d", b'"program": "faces3d"', b'"generator":"faces3d"',     # .png, .json, .glb
           b"time_s,face,yaw_deg,pitch_deg,roll_deg,browDownLeft,")     # the header of a .csv, which has no comments
_SEEN = 4096            # bytes at either end of a file in which its mark stands
_PNG = 8 + 25           # signature and IHDR: what must come first


def mark(temporary: Path, path: Path) -> None:
    """Put the mark into a whole file, which will be renamed to `path`, in place. A format without a place for it, and a
    file that has it, is left as it is."""
    place = _PLACES.get(path.suffix.lower())
    if place and not is_marked(temporary):
        place(temporary)


def is_marked(path: Path) -> bool:
    """Whether a file has the mark; the program's name alone, as in a path, is none. OSError where it cannot be read."""
    with path.open("rb") as file:
        ends = [file.read(_SEEN)]
        file.seek(max(0, file.seek(0, 2) - _SEEN))
        ends.append(file.read(_SEEN))
    return any(known in end for known in (NOTE, *_FIELDS) for end in ends)


def _changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The function that changes a whole file."""
    def write(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))
    return write


def _after_lines(lines: int, text: bytes) -> Callable[[bytes], bytes]:
    """Text behind the first so many lines."""
    def change(data: bytes) -> bytes:
        parts = data.split(b"\n", lines)
        return b"\n".join([*parts[:lines], text + parts[lines]])
    return change


def _png(data: bytes) -> bytes:
    """A tEXt chunk (PNG, 11.3.4.3) behind the header."""
    body = b"tEXt" + _FIELDS[0]
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:_PNG] + chunk + data[_PNG:]


def _jpeg(data: bytes) -> bytes:
    """A COM segment behind SOI."""
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(NOTE) + 2) + NOTE + data[2:]


def _npz(path: Path) -> None:
    """The archive's comment."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = NOTE


_COMMENT = b"# " + NOTE + b"\n"
_BOX = struct.pack(">I", 8 + len(NOTE)) + b"free" + NOTE       # ISO/IEC 14496-12, 8.1.2: its length counts its head
_CHUNK = b"JUNK" + struct.pack("<I", len(NOTE)) + NOTE          # RIFF's; its length does not
_PLACES: dict[str, Callable[[Path], None]] = {
    ".png": _changed(_png), ".jpg": _changed(_jpeg), ".jpeg": _changed(_jpeg), ".npz": _npz,
    ".ply": _changed(_after_lines(2, b"comment " + NOTE + b"\n")), ".obj": _changed(_after_lines(0, _COMMENT)),
    ".mtl": _changed(_after_lines(0, _COMMENT)), ".pts": _changed(lambda data: data + _COMMENT),
    ".json": _changed(lambda data: data.replace(b"{", b"{\n " + _FIELDS[1] + b",", 1)),
    ".mp4": _changed(lambda data: data + _BOX), ".avi": _changed(lambda data: data + _CHUNK)}
