"""The house law, read off the source with ast: rooms, arrows between them, sizes, where printing and plotting live."""
import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("Dataset", "Datagenerator", "Network", "Evaluation")
SCRIPTS = ("train.py", "evaluate.py", "demo.py")
ALLOWED_TOP = {"setup.cfg", "README.md", "Network", "Datagenerator", "Evaluation", "Dataset", "train.py", "evaluate.py",
               "demo.py", "tests", "pyproject.toml", "Makefile", ".ci", "docs", "CHANGELOG.md", "LICENSE", ".gitignore",
               "CITATION.cff", "faces3d.py"}
#: every folder of code; a new one is a decision
ROOMS = {
    "Dataset": {"geometry", "io", "rendering", "face_model", "synthesis", "fitting", "representations", "detection",
                "sources"},
    "Datagenerator": {"sequences", "augmentation", "loading", "online"},
    "Network": {"models", "layers", "losses", "config", "training", "inference", "engine", "export", "readout", "video",
                "inspection", "commands", "weights", "res"},
    "Evaluation": {"metrics", "reports", "figures", "views", "web", "papers"},
}
MAY_IMPORT = {"Dataset": {"Dataset"}, "Datagenerator": {"Datagenerator", "Dataset"},
              "Network": {"Network", "Dataset"}, "Evaluation": {"Evaluation", "Dataset"}}
MAX_FILES, MAX_LINES, MAX_SCRIPT_LINES = 15, 400, 100
#: Network's rooms of pure Keras: no backend by name, no OpenCV, nothing of Dataset
PURE_KERAS = ("Network.models", "Network.layers", "Network.losses")
#: ... but for the one file that calls a kernel of TensorFlow's where that is the backend
KERNELS = "Network.layers.fused"
#: what the tests' names and comments said before they took the field's terms
FORMER_WORDS = "coat|openness|surest|truths|visits|told|judged"
SYSTEMS = {"convlstm", "uvnet", "pix2pix", "vrn", "coarse", "compact"}
#: where a system may be distinguished by its name: the registries and each system's own Predictor
NAMES_ALLOWED = ("Network/inference/", "Network/training/presets.py", "Network/__init__.py")


def modules(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py") if "__pycache__" not in p.parts)


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


KNOWN = {dotted(path): path for package in PACKAGES for path in modules(package)}


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, is at module level) of everything that a file imports, lazy imports included."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(node.module, id(node) in top)] + [(f"{node.module}.{alias.name}", id(node) in top)
                                                         for alias in node.names
                                                         if f"{node.module}.{alias.name}" in KNOWN]
    return found


def room_of(module: str) -> str:
    """"Dataset.geometry" of "Dataset.geometry.mesh"; a module that stands in no room is its own."""
    parts = module.split(".")
    return ".".join(parts[:2])


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            part = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(part) > 1:
                found.append(sorted(part))
    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def arrows_between(name: "callable") -> dict[str, set[str]]:
    """Arrows between modules, each under the name that `name` gives it."""
    found: dict[str, set[str]] = {}
    for module, path in KNOWN.items():
        for imported, _ in imports(path):
            if imported in KNOWN and name(imported) != name(module):
                found.setdefault(name(module), set()).add(name(imported))
    return found


def test_the_rooms_are_those_of_the_house():
    for package, rooms in ROOMS.items():
        folders = {p.name for p in (ROOT / package).iterdir() if p.is_dir() and p.name != "__pycache__"}
        assert folders == rooms, f"{package}: {sorted(folders ^ rooms)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_one_way(package):
    for path in modules(package):
        for name, _ in imports(path):
            head = name.split(".")[0]
            if head in PACKAGES:
                assert head in MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {name}"
            assert head not in ("train", "evaluate", "demo", "tests", "faces3d"), f"{path.relative_to(ROOT)}: {name}"


def test_circles_are_found():
    """The search itself: a circle of two and one of three, and a chain that is none."""
    arrows = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"e"}, "e": {"c"}, "f": {"a"}}
    assert circles(arrows) == [["c", "d", "e"], ["a", "b"]]


def test_rooms_form_no_circle():
    assert circles(arrows_between(room_of)) == []


def test_modules_form_no_circle():
    assert circles(arrows_between(lambda module: module)) == []


def test_dataset_knows_no_network_library():
    for path in modules("Dataset"):
        for name, _ in imports(path):
            assert name.split(".")[0] not in ("tensorflow", "keras", "jax", "torch"), f"{path} imports {name}"


def test_model_files_run_on_any_backend():
    checked = 0
    for module, path in KNOWN.items():
        if module.startswith(PURE_KERAS) and module != KERNELS:
            checked += 1
            for name, _ in imports(path):
                assert name.split(".")[0] not in ("tensorflow", "jax", "torch", "cv2", "Dataset"), f"{path}: {name}"
                if name.startswith("Network."):
                    assert name.startswith((*PURE_KERAS, "Network.config")), f"{path}: {name}"
    assert checked > 15


def test_no_system_is_asked_for_by_name():
    """A system's abilities are said once, by its Predictor: `x == "uvnet"` stands nowhere else."""
    for path in [q for package in PACKAGES for q in modules(package)] + [ROOT / script for script in SCRIPTS]:
        where = path.relative_to(ROOT).as_posix()
        if where.startswith(NAMES_ALLOWED):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                words = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                assert not words & SYSTEMS, f"{where}:{node.lineno} compares with {sorted(words & SYSTEMS)}"


def test_only_plots_knows_matplotlib_and_only_lazily():
    for package in PACKAGES:
        for path in modules(package):
            for name, at_top in imports(path):
                if name.split(".")[0] == "matplotlib":
                    assert path.name == "plots.py" and not at_top, f"{path} imports {name}"


def is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def test_library_does_not_print():
    """print() belongs to scripts and to the main() of a `python -m` module."""
    for package in PACKAGES:
        for path in modules(package):
            tree = ast.parse(path.read_text())
            runnable = any(is_main_guard(n) for n in tree.body)
            mains = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == "main" and runnable]
            for call in ast.walk(tree):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print":
                    inside = any(f.lineno <= call.lineno <= f.end_lineno for f in mains)
                    assert inside, f"{path.relative_to(ROOT)}:{call.lineno} prints"


def test_importing_does_no_work():
    """At module level: imports, definitions, constants, docstrings, the main guard. No loops, with or bare calls."""
    for package in PACKAGES:
        for path in modules(package):
            for node in ast.parse(path.read_text()).body:
                bare = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
                work = isinstance(node, (ast.For, ast.While, ast.With)) or bare
                assert not work, f"{path.relative_to(ROOT)}:{node.lineno} works at import time"


def test_sizes():
    for path in [*(q for package in PACKAGES for q in modules(package)), *sorted((ROOT / "tests").rglob("*.py")),
                 ROOT / "faces3d.py"]:
        assert len(path.read_text().splitlines()) <= MAX_LINES, f"{path.relative_to(ROOT)} is over {MAX_LINES} lines"
    for script in SCRIPTS:
        assert len((ROOT / script).read_text().splitlines()) <= MAX_SCRIPT_LINES, script
    for package in PACKAGES:
        for folder in {path.parent for path in modules(package)}:
            files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(files) <= MAX_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files"


def tracked() -> list[str]:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode or not found.stdout:
        pytest.skip("not a git checkout")
    return found.stdout.splitlines()


def test_top_level_is_the_users():
    assert {line.split("/")[0] for line in tracked()} <= ALLOWED_TOP


def test_images_of_the_pages_are_tracked():
    """An ignored image is there for whoever made it, and for nobody else."""
    files = tracked()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            image = (page.parent / name).resolve().relative_to(ROOT.resolve())
            assert image.as_posix() in files, f"{page.name}: shows {image}, which is not tracked"


def test_tests_use_the_fields_words():
    """The glossary of docs/conventions.md holds here, too; "ground truths" is a term of the field."""
    found = re.compile(rf"(?<![a-z])(?<!ground[ _])(?:{FORMER_WORDS})(?![a-z])", re.IGNORECASE)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        match = found.search(path.read_text().replace(FORMER_WORDS, ""))
        assert match is None, f"{path.relative_to(ROOT)}: says {match[0]}"


def test_pages_name_files_that_exist():
    """A path of this repository in README or docs (but the archive) leads somewhere."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        rooms = r"\b(?:Dataset|Datagenerator|Network|Evaluation)(?:/\w+)+\.(?:py|md)\b"
        for name in re.findall(rooms, page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: names {name}"


def test_docstrings_name_files_that_are_there():
    """A path from the root, or its end."""
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    theirs = {"SHARED/score.py", "MODULE.py"}
    for path in [q for package in PACKAGES for q in modules(package)] + sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for name in re.findall(r"[\w/]+\.py\b", ast.get_docstring(node) or ""):
                    assert name in theirs or any(f"/{file}".endswith(f"/{name}") for file in files), f"{path}: {name}"
