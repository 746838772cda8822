"""The commands of README.md and their flags, as they print them:  python -m tests.cli_reference  writes docs/cli.md."""
from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cli.md"
HEAD = """# Command line

What each command prints for `--help`, written by tests/cli_reference.py. Values in brackets are defaults; those of
`train.py` are of `--preset quick`: with another `--preset` before it `--help` shows that one's.
"""


def commands() -> list[str]:
    """Of README.md's table, each once: demo.py, Dataset.shards ..."""
    found = re.findall(r"^\| `python (?:-m )?([\w.]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    return list(dict.fromkeys(found))


def help_of(command: str) -> str:
    """What a command prints for --help, at 110 columns."""
    out, script = io.StringIO(), command.endswith(".py")
    name = command if script else f"python -m {command}"
    with mock.patch.dict(os.environ, COLUMNS="110"), mock.patch.object(sys, "argv", [command, "--help"]), \
            contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        if script:
            runpy.run_path(str(ROOT / command), run_name="__main__")
        else:
            runpy.run_module(command, run_name="__main__")
    return re.sub(r"^usage: \S+(?: -m \S+)?", f"usage: {name}", out.getvalue().strip())


def page() -> str:
    """docs/cli.md."""
    parts = [f"## {command}\n\n```text\n{help_of(command)}\n```\n" for command in commands()]
    return "\n".join([HEAD, *parts])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
