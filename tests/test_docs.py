"""What README and docs name exists: commands, their flags, targets of make, links. The archive is left as it was."""
import contextlib
import io
import re
import runpy
import shlex
import sys
import warnings
from functools import lru_cache
from pathlib import Path

import pytest

from Network.models.registry import NETWORKS
from Network.training.presets import PRESETS, resolve
from tests import cli_reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "cards").glob("*.md")}
               - {cli_reference.PAGE})
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
#: "python train.py", "python -m Dataset.shards", or a script's name alone, up to the end of the code
COMMAND = re.compile(r"(?:python (?:-m (?P<module>[\w.]+)|(?P<script>\w+\.py))"
                     r"|(?<![\w./])(?P<bare>train\.py|evaluate\.py|demo\.py))(?P<rest>[^`\n]*)")
#: of pip, pytest and git, which the pages name, too
OTHERS = {"--no-deps"}


def blocks_of(page: Path) -> list[str]:
    """Indented lines of a page, without their comments."""
    return [line.strip().split(" #")[0].strip() for line in page.read_text().splitlines() if line.startswith("    ")]


def code_of(page: Path) -> list[str]:
    """The code of a page: its indented lines, and what stands between backticks, where tables escape a |."""
    return blocks_of(page) + re.findall(r"`([^`\n]+)`", page.read_text().replace("\\|", "|"))


def commands() -> list[tuple[str, str, str]]:
    """(page, program, what follows it) of every command, each once."""
    found = {(page.name, match["module"] or match["script"] or match["bare"], match["rest"].strip())
             for page in PAGES for code in code_of(page) for match in COMMAND.finditer(code)}
    return sorted(found)


@lru_cache(maxsize=None)
def help_of(program: str, preset: str | None = None) -> str:
    """What a program prints for --help, run in this process."""
    argv, out = sys.argv, io.StringIO()
    sys.argv = [program, *(["--preset", preset] if preset else []), "--help"]
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)     # of runpy: the module was imported before
            if program.endswith(".py"):
                runpy.run_path(str(ROOT / program), run_name="__main__")
            else:
                runpy.run_module(program, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = argv
    assert ended.value.code in (0, None), f"{program}: {ended.value.code}"
    return out.getvalue()


def preset_of(words: str) -> str | None:
    match = re.search(r"--preset ([a-z][a-z0-9-]*)", words)
    return match[1] if match else None


def test_pages_name_commands():
    assert len(commands()) > 60 and {"train.py", "evaluate.py", "demo.py"} < {program for _, program, _ in commands()}


@pytest.mark.parametrize("program", sorted({program for _, program, _ in commands()}))
def test_each_flag_that_a_page_names_is_one_of_its_command(program):
    for page, name, words in commands():
        if name == program:
            known = set(FLAG.findall(help_of(program, preset_of(words))))
            assert set(FLAG.findall(words)) <= known, f"{page}: {program} {words}"


def test_flags_named_alone_belong_to_some_command():
    """`--fusion` in a table of docs is a flag of some program, under some preset."""
    presets = sorted({preset for page, name, words in commands() if (preset := preset_of(words))})
    known = {flag for program in {name for _, name, _ in commands()} for flag in FLAG.findall(help_of(program))}
    known |= {flag for preset in presets for flag in FLAG.findall(help_of("train.py", preset))} | OTHERS
    for page in PAGES:
        for code in code_of(page):
            unknown = set(FLAG.findall(code)) - known
            assert not unknown, f"{page.name}: {sorted(unknown)} in `{code}`"


def test_targets_of_make_exist():
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = {target for page in PAGES for code in code_of(page) for target in re.findall(r"\bmake ([a-z-]+)", code)}
    assert named and named <= targets


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            name, _, anchor = target.partition("#")
            there = (page.parent / name).resolve() if name else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_no_page_but_the_archive_shows_what_hybrids_gave():
    for page in PAGES:
        for name in ("table.png", "iterations.jpg", "detail.jpg"):
            assert f"img/{name}" not in page.read_text(), f"{page.name}: shows {name}"


@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "demo.py"])
def test_whole_command_lines_are_read(program):
    """Of the scripts: an unknown choice, a value of another type or flags that exclude each other are refused."""
    import demo
    import evaluate
    import train
    from Network.config.declared import declared
    readers = {"train.py": lambda words: train.parse(words, "", declared("Datagenerator.source")["DATA_CONFIGS"]),
               "evaluate.py": lambda words: evaluate.parse("", words),
               "demo.py": lambda words: demo.parse("", demo.ServeConfig, demo.VIEWS, words)}
    lines = [(page.name, shlex.split(line)[2:]) for page in PAGES for line in blocks_of(page)
             if line.startswith(f"python {program}") and "NAME" not in line]
    assert len(lines) > 4
    for page, words in lines:
        try:
            readers[program](words)
        except SystemExit as error:
            pytest.fail(f"{page}: python {program} {shlex.join(words)}: {error}")


def test_image_sizes_of_the_networks_are_those_of_the_presets():
    """docs/conventions.md, Networks: the side of each preset's images stands in its network's row."""
    rows = re.findall(r"^\| `(\w+)` \| (`\(B, .*)$", (ROOT / "docs" / "conventions.md").read_text(), re.M)
    assert dict(rows).keys() == NETWORKS.keys()
    for preset, parts in PRESETS.items():
        size = resolve(preset, {})["model"]["image_size"]
        assert re.search(rf"\b{size}\b", dict(rows)[parts["network"]]), (preset, size)


def test_the_command_line_reference_is_todays():
    """docs/cli.md: each command of README.md, with its flags; `python -m tests.cli_reference` writes it anew."""
    sections = re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", cli_reference.PAGE.read_text(), re.M | re.S)
    assert [name for name, _ in sections] == cli_reference.commands() and len(sections) > 15
    for name, text in sections:
        assert set(FLAG.findall(text)) == set(FLAG.findall(help_of(name))), f"{name}: python -m tests.cli_reference"
