"""Ground truths of BU-4DFE in grid order (`--order grid`): registration of each scan, and its quality.

    OUT/F001/registration.json  of one subject: the scan, the number of landmarks, Quality, faults
    OUT/registration.json       of all: limits, their means, the names of bad fits, the subjects
"""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from Dataset.fitting.nonrigid_icp import BAD_ABOVE, BAD_BELOW, register
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.io.atomic import write_text
from Dataset.representations.points import coarser
from Dataset.sources.bnd import read_bnd, to_68

RECORD = "registration.json"
OFF_SCAN = 10.0             # mm: landmarks of this scan lie on it; those of another file do not


def ordered_truth(path: Path, scan: Mesh, points: int) -> tuple[np.ndarray, dict[str, Any]]:
    """A scan -> its grid row by row, (points, 3) float64 mm in the scan's frame, and the subject's record.

    With the landmarks of `path`'s .bnd (000.bnd beside 000.wrl), where there is one. ValueError that names the file:
    no face, no triangles, a .bnd that is broken or does not lie on the scan.
    """
    landmarks, beside = None, path.with_suffix(".bnd")
    if beside.is_file():
        landmarks = to_68(read_bnd(beside), str(beside))
        off = float(np.median(ScanSurface(scan, str(path)).nearest(landmarks.points).distance))
        if off > OFF_SCAN:
            raise ValueError(f"{beside}: landmarks must lie on {path.name}, half of them are more than {off:.0f} mm "
                             "away")
    result = register(scan, landmarks, str(path))
    quality = {name: value if math.isfinite(value) else None for name, value in result.quality._asdict().items()}
    record = {"scan": f"{path.parent.name}/{path.name}", "landmarks": 0 if landmarks is None else len(landmarks.index),
              **{name: value if value is None else round(value, 6) for name, value in quality.items()},
              "faults": result.quality.faults()}
    return coarser(result.grid, math.isqrt(points)).reshape(-1, 3), record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a subject's registration.json."""
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def write_summary(out: Path, names: list[str]) -> dict[str, Any]:
    """Collect the records of these subjects in OUT/registration.json -> its content."""
    subjects = {name: json.loads((out / name / RECORD).read_text("utf-8")) for name in names}
    measured = [key for key, value in next(iter(subjects.values())).items() if key not in ("scan", "faults")]
    columns = {key: [p[key] for p in subjects.values() if p[key] is not None] for key in measured}
    summary = {"limits": {"above": BAD_ABOVE, "below": BAD_BELOW},
               "mean": {key: round(float(np.mean(column)), 6) if column else None for key, column in columns.items()},
               "bad": sorted(name for name, p in subjects.items() if p["faults"]), "subjects": subjects}
    write_text(out / RECORD, json.dumps(summary, indent=1) + "\n")
    return summary


def describe(out: Path) -> str:
    """OUT/registration.json in two or three lines, to be printed."""
    summary = json.loads((out / RECORD).read_text("utf-8"))
    mean, subjects, bad = summary["mean"], summary["subjects"], summary["bad"]
    lines = [f"scans registered: {len(subjects)}; surface error mean {mean['surface_mean']:.3f} mm, 95th percentile "
             f"{mean['surface_p95']:.3f}; {mean['covered']:.0%} of the grid have scan underneath"]
    if mean["landmarks_mean"] is not None:
        lines[0] += f"; landmarks {mean['landmarks_mean']:.2f} mm"
    lines.append(f"bad fits: {len(bad)}" + "".join(f"; {name} ({', '.join(subjects[name]['faults'])})" for name in bad))
    return "\n".join([*lines, f"each scan's figures are in {out / RECORD}"])
