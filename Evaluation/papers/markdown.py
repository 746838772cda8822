"""A report as Markdown, and as one HTML file with its images inside; tables are read back from the Markdown of ours."""
from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from Dataset.io.atomic import write_text
from Dataset.io.images import read_image, write_image
from Evaluation.reports.tables import Table

MAX_WIDTH = 1200        # px of an image in a report
_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:1240px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%;display:block;margin:.6em 0;border:1px solid #ddd}
table{border-collapse:collapse;font-size:13px}
td,th{border:1px solid #ccc;padding:2px 7px;text-align:left;vertical-align:top}h2{margin-top:2em;font-size:1.15em}
.paper{color:#555}.none{color:#8a4b00}code{font-size:12px;word-break:break-all}
caption{text-align:left;font-weight:600}"""


class Section(NamedTuple):
    """An item as it is shown: its images are names in the report's `images` folder; missing: why there is none."""

    label: str
    title: str
    paper: str
    text: str
    images: Sequence[str]
    tables: Sequence[Table]
    missing: str = ""


class Report(NamedTuple):
    """What is written: a heading, notes, commands, sections in the paper's order."""

    title: str
    notes: Sequence[str]
    commands: Sequence[str]
    sections: Sequence[Section]


def keep_image(source: Path, folder: Path, name: str) -> str:
    """Copy an image, at most MAX_WIDTH wide, to FOLDER/NAME.jpg -> its file name. ValueError for no image."""
    image = read_image(source)
    width = image.shape[1]
    if width > MAX_WIDTH:
        size = MAX_WIDTH, max(1, round(image.shape[0] * MAX_WIDTH / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    write_image(folder / f"{name}.jpg", np.ascontiguousarray(image))
    return f"{name}.jpg"


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write FOLDER/report.md and FOLDER/report.html -> their paths."""
    paths = [folder / "report.md", folder / "report.html"]
    write_text(paths[0], as_markdown(report))
    write_text(paths[1], as_html(report, folder / "images"))
    return paths


def as_markdown(report: Report) -> str:
    """The report with links to images/NAME."""
    parts = [f"# {report.title}", *report.notes, "## Commands", "\n".join(f"    {line}" for line in report.commands)]
    for section in report.sections:
        parts.append(f"## {section.label}: {section.title}")
        parts += [f"The paper: {section.paper}"] if section.paper else []
        parts += [f"Not made: {section.missing}"] if section.missing else []
        parts += [f"Ours: {section.text}"] if section.text else []
        parts += [f"![{section.label}](images/{name})" for name in section.images]
        parts += [table.markdown().rstrip() for table in section.tables]
    return "\n\n".join(parts) + "\n"


def as_html(report: Report, images: Path) -> str:
    """One file that asks no other machine for anything: images are inside, scripts and links are forbidden."""
    def text(words: str) -> str:
        return html.escape(words)
    body = [f"<h1>{text(report.title)}</h1>", *(f"<p>{text(note)}</p>" for note in report.notes),
            "<details><summary>Commands</summary>", *(f"<p><code>{text(line)}</code></p>" for line in report.commands),
            "</details>"]
    for section in report.sections:
        body.append(f"<h2>{text(section.label)}: {text(section.title)}</h2>")
        body += [f'<p class="paper">The paper: {text(section.paper)}</p>'] if section.paper else []
        body += [f'<p class="none">Not made: {text(section.missing)}</p>'] if section.missing else []
        body += [f"<p>Ours: {text(section.text)}</p>"] if section.text else []
        for name in section.images:
            data = base64.b64encode((images / name).read_bytes()).decode()
            body.append(f'<img alt="{text(section.label)}" src="data:image/jpeg;base64,{data}">')
        body += [_html_table(table) for table in section.tables]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
            f'content="{policy}"><title>{text(report.title)}</title><style>{_STYLE}</style>\n' + "\n".join(body)
            + "\n</html>\n")


def _html_table(table: Table) -> str:
    def row(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
    rows = [row(table.columns, "th"), *(row(cells, "td") for cells in table.rows)]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    return (f"<table><caption>{html.escape(table.title)}</caption>" + "".join(rows) + "</table>"
            + (f"<ul>{notes}</ul>" if notes else ""))


def read_table(path: Path) -> Table:
    """`Table.markdown` back from its file; cells are text. ValueError for a file that holds none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    title = next((line.strip("*") for line in lines if line.startswith("**")), "")
    rows = [_cells(line) for line in lines if line.startswith("| ")]
    if not rows:
        raise ValueError(f"{path}: holds no table")
    return Table(title, rows[0], rows[1:], [_plain(line[2:]) for line in lines if line.startswith("- ")])


def _cells(line: str) -> list[str]:
    return [_plain(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _plain(text: str) -> str:
    return text.replace("<br>", " ").replace("\\|", "|").replace("\\\\", "\\")
