"""What a reproduction of a paper is: commands that make data and run, then the paper's figures and tables in its order.

Everything is made by the documented commands (train.py, evaluate.py, demo.py, python -m Dataset.*), so that each part
of a report can be made by hand, too.
"""
from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, NamedTuple, Sequence

from Dataset.io.images import IMAGE_SUFFIXES
from Evaluation.reports.tables import Table

SCALES = ("tiny", "small", "paper")
Words = tuple[str, ...]


class Made(NamedTuple):
    """What stands under an item: image files, tables, and a sentence on our numbers."""

    images: Sequence[Path] = ()
    tables: Sequence[Table] = ()
    text: str = ""


class Item(NamedTuple):
    """A figure or table of the paper. label: "Figure 22"; title: what it shows; make: draws ours, or the reason why
    there is none; paper: what the paper's has, its numbers above all."""

    label: str
    title: str
    make: Callable[["Context"], Made] | str
    paper: str = ""


class Step(NamedTuple):
    """A command that is run once: words as typed behind `python`, e.g. ("train.py", "DATA", "--resume"). training: it
    belongs to the training, and is left out where weights are bundled."""

    words: Words
    training: bool = False


class StepFailed(ValueError):
    """A command ended with another code than 0; the message is its last line of standard error."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Context:
    """Where a report is made.

    scale   of SCALES
    out     the report's folder
    data    the folder of data sets, which the papers share
    model   what demo.py and evaluate.py take as --model: the run's folder, or the name of bundled weights
    run     the run's folder; it exists where this command trained
    """

    scale: str
    out: Path
    data: Path
    model: str
    run: Path

    def test(self, side: int, name: str = "test") -> Path:
        """The folder of a set of test shards, as `evaluation_shards` names it."""
        return evaluation_shards(self.scale, self.data, side, name)[0]

    def command(self, *words: object) -> str:
        """Run a command -> what it printed. StepFailed when it fails: the item then stands as not made."""
        return run_words(tuple(str(word) for word in words), quiet=True)

    def file(self, name: str) -> Path:
        """A path in the report's folder of intermediate files."""
        (self.out / "made").mkdir(parents=True, exist_ok=True)
        return self.out / "made" / name

    def table(self, name: str, *words: object) -> Table:
        """The table of an evaluate.py command line: words behind `evaluate.py`, without --results."""
        from Evaluation.papers.markdown import read_table
        self.command("evaluate.py", *words, "--results", self.file(name))
        return read_table(self.file(name).with_suffix(".md"))

    def demo(self, name: str, inputs: Sequence[object], *words: object, ends: str = "") -> Path:
        """demo.py with this model -> the image NAME[_ENDS].png that it wrote beside the face."""
        self.command("demo.py", *(inputs or ("--example",)), "--model", self.model, *words,
                     "-o", self.file(f"{name}.ply"))
        return self.file(f"{name}{ends and '_' + ends}.png")

    def curve(self) -> Made:
        """Training and validation loss of this command's run. ValueError where it trained none."""
        if not (self.run / "loss.png").is_file():
            raise ValueError("bundled weights are used: their loss curve stands in the model card")
        return Made([self.run / "loss.png"])

    def epoch_images(self, most: int = 4) -> list[Path]:
        """The images of the run's last epoch. ValueError where this command trained no run."""
        epochs = sorted((self.run / "epochs").glob("*/"))
        if not epochs:
            raise ValueError("bundled weights are used: no run of this command has images of an epoch")
        return [path for path in sorted(epochs[-1].iterdir()) if path.suffix in IMAGE_SUFFIXES][:most]


@dataclass(frozen=True)
class Paper:
    """One paper. steps: (scale, data folder, run folder) -> the commands before the figures; bundled: the weights that
    scale small takes where they exist."""

    name: str
    title: str
    system: str
    bundled: str
    steps: Callable[[str, Path, Path], list[Step]]
    items: Sequence[Item]
    notes: Sequence[str] = ()


def typed(words: Words) -> str:
    """Words as they are typed at a prompt."""
    head = ("python", words[0]) if words[0].endswith(".py") else ("python", "-m", words[0])
    return " ".join((*head, *words[1:]))


def run_words(words: Words, quiet: bool = False) -> str:
    """Run a command in this process -> what it printed to standard output; quiet: nothing is shown. StepFailed when it
    ends with another code than 0."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    module, code = words[0].removesuffix(".py"), 0
    sys.argv = list(words)
    try:
        with contextlib.ExitStack() as streams:
            if quiet:
                streams.enter_context(contextlib.redirect_stdout(out))
                streams.enter_context(contextlib.redirect_stderr(err))
            streams.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", RuntimeWarning)     # of runpy: the module was imported before
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = argv
    if code:
        lines = err.getvalue().strip().splitlines()
        raise StepFailed(lines[-1] if lines else f"{typed(words)} ended with code {code}", code)
    return out.getvalue()


def run_child(words: Words) -> None:
    """Run a command in a process of its own, which gives its memory and its precision back. StepFailed as above. Ctrl-C
    waits for its end: a training saves its state first."""
    process = subprocess.Popen([sys.executable, "-m", words[0].removesuffix(".py"), *words[1:]])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code:
        raise StepFailed(f"{typed(words)} ended with code {code}", code)


def flags(values: Mapping[str, object]) -> Words:
    """{"epochs": 3} -> ("--epochs", "3"); True is the flag alone."""
    return tuple(word for name, value in values.items()
                 for word in ((f"--{name}",) if value is True else (f"--{name}", str(value))))


#: options of the rendered training and test sets; `small` is the set of docs/training.md and its frozen test subjects
_TRAIN = {"tiny": {"subjects": 8, "images": 2, "size": 64, "seed": 4, "yaw": 30, "pitch": 10, "roll": 10, "detect": 0,
                   "workers": 1},
          "small": {"subjects": 6400, "images": 8, "seed": 0, "skins": 0.5, "workers": 2},
          "paper": {"subjects": 12500, "images": 8, "seed": 0, "skins": 0.5, "workers": 8}}
_TEST = {"tiny": {"subjects": 3, "images": 2, "size": 64, "seed": 9001, "yaw": 30, "pitch": 10, "roll": 10, "detect": 0,
                  "workers": 1},
         "small": {"subjects": 64, "images": 8, "seed": 9001, "workers": 2},
         "paper": {"subjects": 64, "images": 8, "seed": 9001, "workers": 8}}
_BUFFERS = "uv,mask,visible_mask,depth"


def evaluation_shards(scale: str, data: Path, side: int, name: str = "test", **more: object) -> tuple[Path, Step]:
    """A set of test shards and the step that renders it: at scale paper of `side` px, at the others the same ones for
    all papers. more: flags that differ from the scale's."""
    folder = data / (f"{name}-{side}" if scale == "paper" else name)
    size = {"size": side} if scale == "paper" else {}
    return folder, Step(("Dataset.shards", str(folder), *flags({**_TEST[scale], **size, "buffers": _BUFFERS, **more})))


def shards(scale: str, data: Path, side: int, name: str = "train", **more: object) -> tuple[Path, Path, list[Step]]:
    """Training and test shards of a scale, and the steps that render them; sizes as `evaluation_shards`. more: flags of
    the training set that differ from the scale's; it then needs a name of its own."""
    train = data / (f"{name}-{side}" if scale == "paper" else name)
    size = {"size": side} if scale == "paper" else {}
    test, rendered = evaluation_shards(scale, data, side)
    options = {**_TRAIN[scale], **size, "buffers": _BUFFERS, **more}
    return train, test, [Step(("Dataset.shards", str(train), *flags(options)), True), rendered]
