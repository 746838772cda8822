"""One page for a run, after Ronkainen 2017, 3.9:  python -m Evaluation.web.viewer RUN [-o RUN/index.html]

A summary, the resolved parameters, the curves of history.csv with exact values, and the images of every epoch under
sliders, in one HTML file that opens from the disk and asks no other machine for anything. Images lie in the run as
RUN/epochs/NNNN/NAME.jpg, whatever the network is. Unlike the paper's page, ours holds the images, so that it can be
sent to somebody; a browser parses those of an epoch when a slider comes to rest on it.
"""
from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import html
import json
import math
import os
import re
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from Dataset.io.atomic import write_text
from Dataset.io.command import one_line
from Dataset.io.images import image_size
from Dataset.io.json_files import parse_json
from Evaluation.views.epoch_images import MAX_NAMES, NAME

ASSETS = Path(__file__).parent / "assets"
MAX_IMAGE, MAX_PAGE = 2**20, 48 * 2**20   # bytes of one; of all in a page, as base64: above it, every n-th epoch
MAX_CONFIG, MAX_HISTORY = 2**20, 16 * 2**20     # bytes


class Run(NamedTuple):
    """What a page shows. `history` has one row an epoch, one float or None for each of `columns`; `epochs` maps an
    epoch's number to its images by name; `notes` says what was left out."""

    name: str
    config: dict[str, Any]
    columns: list[str]
    history: list[list[float | None]]
    weights: int | None
    epochs: dict[int, dict[str, Path]]
    notes: list[str]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """What there is of a run. ValueError, naming the file and the rule, when it is no run folder or holds a config or a
    history that is none; images that are broken or too large are left out and noted."""
    folder = Path(folder)
    text = _text(folder / "config.json", MAX_CONFIG)
    if text is None:
        raise ValueError(f"{folder}: is no run folder: config.json is missing")
    config = parse_json(text, str(folder / "config.json"))
    columns, history = _history(folder / "history.csv")
    epochs, notes = _image_files(folder / "epochs")
    name = os.path.basename(os.path.realpath(folder))
    return Run(name, config, columns, history, _weights(folder / "state.npz"), epochs, notes)


def _text(path: Path, limit: int) -> str | None:
    """A text file of at most `limit` bytes; None when there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ValueError(f"{path}: may have at most {limit} bytes")
        return data.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: must be UTF-8 text") from None


def _history(path: Path) -> tuple[list[str], list[list[float | None]]]:
    text = _text(path, MAX_HISTORY)
    try:
        rows = [row for row in csv.reader((text or "").splitlines()) if row]
    except csv.Error as error:
        raise ValueError(f"{path}: is no table ({error})") from None
    if not rows:
        return [], []
    values = []
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise ValueError(f"{path}: every row must have the header's {len(rows[0])} columns, one has {len(row)}")
        try:
            numbers = [float(cell) if cell else math.nan for cell in row]
        except ValueError as error:
            raise ValueError(f"{path}: holds something else than numbers ({error})") from None
        values.append([number if math.isfinite(number) else None for number in numbers])
    if "epoch" in rows[0] and any(row[rows[0].index("epoch")] is None for row in values):
        raise ValueError(f"{path}: every row needs the number of its epoch")
    return rows[0], values


def _image_files(folder: Path) -> tuple[dict[int, dict[str, Path]], list[str]]:
    """Epoch -> name -> file, bounded in number and bytes; and what was left out, in words."""
    found: dict[int, dict[str, Path]] = {}
    bad = 0
    for entry in sorted(folder.glob("*")) if folder.is_dir() else ():
        if re.fullmatch(r"[0-9]{4,7}", entry.name) and entry.is_dir():
            files = sorted(p for p in entry.glob("*.jpg") if NAME.fullmatch(p.stem))
            good = {p.stem: p for p in files[:MAX_NAMES] if _is_image(p)}
            bad += len(files) - len(good)
            if good:
                found[int(entry.name)] = good
    notes = [f"{bad} images are broken, too large or too many, and left out."] if bad else []
    size = {epoch: sum(4 * (p.stat().st_size + 2) // 3 for p in names.values()) for epoch, names in found.items()}
    kept, count = sorted(found), len(found)
    while sum(size[epoch] for epoch in kept) > MAX_PAGE and count > 1:
        count = min(count - 1, max(1, int(count * MAX_PAGE / sum(size[epoch] for epoch in kept))))
        kept = [sorted(found)[-1 - i * (len(found) - 1) // max(1, count - 1)] for i in range(count)][::-1]
    if len(kept) < len(found):
        notes.append(f"Of {len(found)} epochs with images {len(kept)} are on this page, which would be too large "
                     "with all of them.")
    return {epoch: found[epoch] for epoch in kept}, notes


def _is_image(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\xff\xd8" and path.stat().st_size <= MAX_IMAGE and max(image_size(path)) < 2**15
    except (OSError, ValueError):
        return False


def _weights(path: Path) -> int | None:
    """Number of weights in state.npz, read off the arrays' headers; None where it cannot be."""
    count = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.startswith("model/"):
                    with archive.open(name) as file:
                        np.lib.format.read_magic(file)
                        count += math.prod(np.lib.format.read_array_header_1_0(file)[0])
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError,
            zlib.error, zipfile.BadZipFile):
        return None
    return count


def summary(run: Run) -> list[tuple[str, str]]:
    """The paper's basic facts of a run, as far as ours knows them: (label, value) pairs."""
    def column(name: str) -> list[float]:
        values = [row[run.columns.index(name)] for row in run.history] if name in run.columns else []
        return [value for value in values if value is not None]

    facts = [(label, str(run.config[key])) for label, key in (("Network", "network"), ("Preset", "preset"),
                                                              ("Data", "data_folder")) if key in run.config]
    if run.weights:
        facts.append(("Weights and statistics", f"{run.weights:,}"))
    facts.append(("Epochs", str(len(run.history))))
    seconds, updates = sum(column("seconds")), max(column("updates"), default=0)
    if seconds:
        facts.append(("Time", f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min {seconds % 60:.0f} s"))
        facts.append(("Updates", f"{updates:,.0f} ({updates / seconds:.3g} a second)"))
    for label, name in (("Training loss, mean of the last 10", "loss"), ("Validation loss, the same", "val_loss")):
        last = column(name)[-10:]
        if last:
            facts.append((label, f"{sum(last) / len(last):.6g}"))
    best = min(column("val_loss"), default=None)
    if best is not None:
        entry = next(i for i, row in enumerate(run.history) if row[run.columns.index("val_loss")] == best)
        number = run.history[entry][run.columns.index("epoch")] if "epoch" in run.columns else entry + 1
        facts.append(("Best validation loss", f"{best:.6g} (epoch {number:.0f})"))
    return facts


def in_script(value: Any) -> str:
    """JSON that stands inside <script type="application/json">: no character of it can end the element."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))     # ASCII only
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, Python's reader lets them in."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def page(run: Run) -> str:
    """The page as text. Only our own script and style may run in it: its policy names them by their hash."""
    style, script, template = ((ASSETS / f"viewer.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    chosen = run.config.get("train") if isinstance(run.config.get("train"), dict) else {}
    names = sorted({name for images in run.epochs.values() for name in images})
    data = {"summary": summary(run), "config": run.config, "columns": run.columns, "history": run.history,
            "metric": f"val_{chosen.get('choose_by', '')}", "names": names, "epochs": list(run.epochs),
            "notes": run.notes}
    images = (in_script({name: base64.b64encode(path.read_bytes()).decode("ascii") for name, path in files.items()})
              for files in run.epochs.values())

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
    parts = {
        "title": html.escape(run.name), "style": style, "script": script, "run": in_script(data),
        "epochs": "\n".join(f'<script type="application/json" id="epoch-{i}">{text}</script>'
                            for i, text in enumerate(images)),
        "policy": html.escape(f"default-src 'none'; img-src data:; style-src {source(style)}; "
                              f"script-src {source(script)}; base-uri 'none'; form-action 'none'", quote=True)}
    return re.sub(r"\{\{(\w+)\}\}", lambda entry: parts[entry[1]], template)       # one pass: data is never a template


def write_page(folder: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Write a run's page, aside and then renamed -> its path, by default RUN/index.html. ValueError as `read_run`."""
    run = read_run(folder)
    path = Path(folder) / "index.html" if output is None else Path(output)
    write_text(path, page(run))
    return path


@one_line("Evaluation.web.viewer")
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Evaluation.web.viewer", description=__doc__.splitlines()[0],
                                     allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("-o", "--output", metavar="FILE", help="default RUN/index.html")
    arguments = parser.parse_args(argv)
    print(f"wrote {os.path.realpath(write_page(arguments.run, arguments.output))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
