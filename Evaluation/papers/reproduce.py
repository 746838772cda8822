"""From a paper's plan to its report: run the steps that are not done yet, make every item, write report.html, .md."""
from __future__ import annotations

import json
import logging
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Callable

from Dataset.io.atomic import write_text
from Dataset.io.json_files import read_json
from Evaluation.papers.markdown import Report, Section, keep_image, write_report
from Evaluation.papers.plan import SCALES, Context, Item, Paper, Step, Words, run_child, run_words, typed

PAPERS = ("thomassen", "ronkainen", "baby", "jackson", "endrawis")
STATE = "reproduction.json"
log = logging.getLogger(__name__)


def load_paper(name: str) -> Paper:
    """The plan of a paper. ValueError for an unknown name."""
    if name not in PAPERS:
        raise ValueError(f"paper must be one of {', '.join(PAPERS)}, got {name!r}")
    return import_module(f"Evaluation.papers.{name}").PAPER


def reproduce(name: str, scale: str, out: Path, data: Path, train: bool = False, bundled: Path | None = None,
              run_step: Callable[[Words], Any] | None = None) -> list[Path]:
    """Make the report of a paper -> the paths of report.md and report.html.

    out      the report's folder; it remembers which steps are done, so that a killed command goes on
    data     the folder of the data sets, which all papers of a scale share
    train    train, though there are bundled weights
    bundled  the folder of bundled weights, for scale small
    run_step runs one command; None: tiny in this process, else in processes of their own
    ValueError for an unknown paper or scale, and where `out` was begun with another one; StepFailed for a step.
    """
    paper, state = load_paper(name), _state(out, name, scale)
    run, ready = out / "run", None
    if scale == "small" and not train and bundled and (bundled / paper.bundled / "config.json").is_file():
        ready = paper.bundled
    context = Context(scale, out, data, ready or str(run), run)
    steps = [step for step in paper.steps(scale, data, run) if not (ready and step.training)]
    for step in steps:
        _run_once(step, out, state, run_step or (run_words if scale == "tiny" else run_child))
    sections = [_section(number, item, context) for number, item in enumerate(paper.items, 1)]
    notes = [f"System `{paper.system}`, scale {scale}, "
             + (f"bundled weights `{ready}`." if ready else "weights trained by this command."), *paper.notes]
    if scale == "tiny":
        notes.append("Scale tiny: a few subjects and seconds of training. It shows that everything runs; its numbers "
                     "say nothing about the paper.")
    commands = [typed(step.words) for step in steps]
    return write_report(out, Report(f"{paper.title}: figures and tables", notes, commands, sections))


def _state(out: Path, name: str, scale: str) -> dict[str, Any]:
    """What a report's folder remembers; of a new folder nothing is done."""
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    path = out / STATE
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out}: must be new, empty, or begun by this command; it holds something else")
        state = {"paper": name, "scale": scale, "done": []}
        write_text(path, json.dumps(state, indent=1) + "\n")
        return state
    state = read_json(path)
    if state.get("paper") != name or state.get("scale") != scale or not isinstance(state.get("done"), list):
        raise ValueError(f"{out}: was begun for {state.get('paper')} at scale {state.get('scale')}, not for {name} at "
                         f"scale {scale}; name another folder")
    return state


def _run_once(step: Step, out: Path, state: dict[str, Any], run_step: Callable[[Words], Any]) -> None:
    """Run a step that is not done yet, and remember it."""
    words = list(step.words)
    if words in state["done"]:
        return
    log.info("%s", typed(step.words))
    run_step(step.words)
    state["done"].append(words)
    write_text(out / STATE, json.dumps(state, indent=1) + "\n")


def _section(number: int, item: Item, context: Context) -> Section:
    """An item, made; what fails is said in its place, and does not end the report."""
    if isinstance(item.make, str):
        return Section(item.label, item.title, item.paper, "", (), (), item.make)
    log.info("%s", item.label)
    try:
        made = item.make(context)
        stem = f"{number:02d}-" + re.sub(r"[^a-z0-9]+", "-", item.label.lower()).strip("-")
        names = [keep_image(path, context.out / "images", f"{stem}{f'-{i}' if i else ''}")
                 for i, path in enumerate(made.images)]
    except (ValueError, OSError) as error:
        return Section(item.label, item.title, item.paper, "", (), (), " ".join(str(error).split()))
    return Section(item.label, item.title, item.paper, made.text, names, made.tables)
