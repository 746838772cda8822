"""The layout of raw BU-4DFE, and the optional CSV of neutral frames."""
from __future__ import annotations

import csv
import io
import logging
import re
from pathlib import Path

from Dataset.sources.bu4dfe_subject import EXPRESSIONS

log = logging.getLogger(__name__)
MAX_CSV = 1 << 20       # bytes
NAME = re.compile(r"[FM]\d{3}")
EXPECTED = tuple([f"F{i:03d}" for i in range(1, 59)] + [f"M{i:03d}" for i in range(1, 44)])
Neutral = dict[str, tuple[str, str]]


def find_subject_folders(raw: Path, exclude: tuple[str, ...] = ()) -> list[Path]:
    """The subject folders in RAW, sorted; other entries are logged and ignored."""
    if not raw.is_dir():
        raise ValueError(f"{raw}: RAW must be the folder that holds F001, F002, ...; there is no such folder")
    subjects = sorted(path for path in raw.iterdir() if path.is_dir() and NAME.fullmatch(path.name))
    others = sorted(path.name for path in raw.iterdir() if path not in subjects)
    if not subjects:
        raise ValueError(f"{raw}: RAW must hold subject folders F001 ... M043, it has "
                         f"{', '.join(others[:3]) if others else 'nothing'}")
    if others:
        log.info("%s: passed over %s", raw, ", ".join(others))
    unknown = sorted(set(exclude) - {path.name for path in subjects})
    if unknown:
        raise ValueError(f"--exclude names subjects of {raw}, {', '.join(unknown)} is not there")
    return [path for path in subjects if path.name not in exclude]


def read_neutral(path: Path) -> Neutral:
    """Read the CSV of neutral frames: columns subject,expression,frame -> {subject: (expression, frame)}."""
    try:
        if path.stat().st_size > MAX_CSV:
            raise ValueError(f"more than {MAX_CSV} bytes")
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: the CSV of neutral frames cannot be read ({error})") from None
    neutral: Neutral = {}
    for line, row in enumerate(rows, start=2):
        values = [(row.get(key) or "").strip() for key in ("subject", "expression", "frame")]
        subject, expression, frame = values
        if not NAME.fullmatch(subject) or expression not in EXPRESSIONS or not re.fullmatch("[0-9]{1,9}", frame):
            raise ValueError(f"{path}, line {line}: must be subject,expression,frame (F001,{EXPRESSIONS[0]},000), got "
                             f"{','.join(values)}")
        if subject in neutral:
            raise ValueError(f"{path}, line {line}: each subject may be there once, {subject} is there again")
        neutral[subject] = (expression, frame)
    if not neutral:
        raise ValueError(f"{path}: the CSV of neutral frames has no row")
    return neutral


def check_neutral(raw: Path, subjects: list[Path], neutral: Neutral) -> None:
    """ValueError if the CSV names a scan that RAW does not have; rows of subjects who are not there are no error."""
    for subject, (expression, frame) in neutral.items():
        folder = raw / subject / expression
        if subject in {path.name for path in subjects} \
                and not any(p.stem.isdecimal() and int(p.stem) == int(frame) for p in folder.glob("*.wrl")):
            raise ValueError(f"{folder / frame}.wrl: the CSV of neutral frames names it, it is not there")
