"""Folders of one's own scans:  FOLDER/SUBJECT/*.jpg + one scan (.ply, .obj, .stl or .wrl) [+ landmarks.pts or .json]

A scan shows a face in mm, +y up and +z out of the face within some 30 degrees; with the 68 landmarks in the scan's own
frame (`Dataset.io.landmark_files`) it may be turned anyhow. The unit is named by the caller, never guessed.
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.io.images import IMAGE_SUFFIXES
from Dataset.io.landmark_files import SUFFIXES, read_landmarks
from Dataset.io.mesh_io import READERS, read_mesh

UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
DIAGONAL = (100.0, 2000.0)      # mm, of a scan's bounding box: from a mask of the face to a head with shoulders
MAX_MATERIAL = 1 << 20          # bytes of an .mtl file, which names the scan's own textures


class ScanSubject(NamedTuple):
    """name: of the folder; photos: in the order of their names; scan; landmarks: None where there are none."""

    name: str
    photos: list[Path]
    scan: Path
    landmarks: Path | None


class Scan(NamedTuple):
    """mesh: mm; a cloud has no triangles; landmarks (68, 3) float64 mm in its frame, or None."""

    mesh: Mesh
    landmarks: np.ndarray | None


def scan_subjects(folder: str | Path) -> list[ScanSubject]:
    """The subjects of a folder, by name. ValueError, naming file and rule: no folder, no subject, a subject without a
    photo, with no scan or several, with several landmark files."""
    folder = Path(folder)
    subjects = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) \
        if folder.is_dir() else []
    if not subjects:
        raise ValueError(f"{folder}: must be a folder of subjects, each a folder of photos and one scan")
    return [_subject(path) for path in subjects]


def _subject(folder: Path) -> ScanSubject:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    scans = [path for path in files if path.suffix.lower() in READERS]
    if len(scans) != 1:
        raise ValueError(f"{folder}: must hold one scan ({' '.join(READERS)}), found "
                         f"{', '.join(path.name for path in scans) or 'none'}")
    textures = [text for path in files if path.suffix.lower() == ".mtl" for text in _textures(path)]
    photos = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and path.stem != scans[0].stem
              and not any(text.endswith(path.name) for text in textures)]
    if not photos:
        raise ValueError(f"{folder}: must hold photos ({' '.join(IMAGE_SUFFIXES)}), the scan's textures do not count")
    landmarks = [path for path in files if path.stem == "landmarks" and path.suffix.lower() in SUFFIXES]
    if len(landmarks) > 1:
        raise ValueError(f"{folder}: must hold one landmark file, found {', '.join(path.name for path in landmarks)}")
    return ScanSubject(folder.name, photos, scans[0], landmarks[0] if landmarks else None)


def _textures(path: Path) -> list[str]:
    """The texture statements of an .mtl file, which end with the name of an image."""
    with open(path, "rb") as file:
        text = file.read(MAX_MATERIAL).decode("utf-8", "replace")
    return [statement.strip() for statement in re.findall(r"(?mi)^\s*map_\S+\s+(.*)$", text)]


def read_scan(subject: ScanSubject, unit: str = "mm") -> Scan:
    """A subject's scan and landmarks, in mm. ValueError, naming the file: an unreadable file, a scan that is no head in
    this unit, landmarks that are not within the scan's bounding box."""
    if unit not in UNITS:
        raise ValueError(f"the unit of scans must be one of {', '.join(UNITS)}, got {unit!r}")
    mesh = read_mesh(subject.scan)
    check_size(subject.scan, mesh.vertices, unit)
    landmarks = None if subject.landmarks is None else read_landmarks(subject.landmarks)
    if landmarks is not None:
        low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
        apart = float(np.maximum(low - landmarks, landmarks - high).max()) / float(np.linalg.norm(high - low))
        if apart > 0.1:
            raise ValueError(f"{subject.landmarks}: landmarks must be in the scan's frame and unit, one lies outside "
                             f"{subject.scan.name} by {apart:.1f} of its diagonal")
    return Scan(mesh._replace(vertices=mesh.vertices * UNITS[unit]),
                None if landmarks is None else landmarks * UNITS[unit])


def check_size(path: Path, vertices: np.ndarray, unit: str) -> None:
    """ValueError unless vertices (V, 3) in this unit are as large as a head; it says which unit would fit."""
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    low, high = DIAGONAL
    if low <= diagonal * UNITS[unit] <= high:
        return
    fits = [name for name, factor in UNITS.items() if low <= diagonal * factor <= high]
    hint = f"it would be a head in {fits[0]}: --scan-unit {fits[0]}" if fits else "scale the file"
    raise ValueError(f"{path}: a scan of a head in {unit} must have a bounding box with a diagonal of "
                     f"{low / UNITS[unit]:g} to {high / UNITS[unit]:g}, this has {diagonal:.6g}; {hint}")
