"""The house law, read off the source with ast: who may import whom, where printing and plotting live, file sizes."""
import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("Dataset", "Datagenerator", "Network", "Evaluation")
SCRIPTS = ("train.py", "evaluate.py", "demo.py")
ALLOWED_TOP = {"setup.cfg", "README.md", "Network", "Datagenerator", "Evaluation", "Dataset", "train.py", "evaluate.py",
               "demo.py", "tests", "pyproject.toml", "Makefile", ".ci", "docs", "CHANGELOG.md", "LICENSE", ".gitignore"}
MAY_IMPORT = {"Dataset": {"Dataset"}, "Datagenerator": {"Datagenerator", "Dataset"},
              "Network": {"Network", "Dataset"}, "Evaluation": {"Evaluation", "Dataset"}}
#: Network's model, layer and loss files import nothing at home but the shared blocks, and no backend by name.
PURE_KERAS = {"mobile3model.py", "uvnet.py", "pix2pix.py", "vrn.py", "coarse.py", "layers.py", "losses.py",
              "coarse_losses.py", "vrn_losses.py", "gan_losses.py", "places.py", "relief.py", "residual.py",
              "correspondence.py"}


def modules(room: str) -> list[Path]:
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted module, is at module level) for every import of a file."""
    tree = ast.parse(path.read_text())
    top = {id(n) for n in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) in top))
    return found


def test_rooms_are_not_empty():
    for room in ROOMS:
        assert len(modules(room)) >= 2, room


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room):
    for path in modules(room):
        for name, _ in imports(path):
            head = name.split(".")[0]
            if head in ROOMS:
                assert head in MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {name}"
            assert head not in ("train", "evaluate", "demo", "tests"), f"{path.relative_to(ROOT)} imports {name}"


def test_dataset_knows_no_network_library():
    for path in modules("Dataset"):
        for name, _ in imports(path):
            assert name.split(".")[0] not in ("tensorflow", "keras", "jax", "torch"), f"{path} imports {name}"


def test_model_files_run_on_any_backend():
    for path in modules("Network"):
        if path.name in PURE_KERAS and path.parent == ROOT / "Network":
            for name, _ in imports(path):
                head = name.split(".")[0]
                assert head not in ("tensorflow", "jax", "torch", "cv2", "Dataset"), f"{path} imports {name}"
                if head == "Network":
                    assert name in ("Network.layers.convlstm", "Network.losses.points", "Network.layers.normalisation",
                                    "Network.layers.hourglass", "Network.layers.residual", "Network.layers.keypoints", "Network.layers.canonical",
                                    "Network.layers.grid", "Network.losses.volume"), f"{path}: {name}"


def test_only_plots_knows_matplotlib_and_only_lazily():
    for room in ROOMS:
        for path in modules(room):
            for name, at_top in imports(path):
                if name.split(".")[0] == "matplotlib":
                    assert path.name == "plots.py" and not at_top, f"{path} imports {name}"


def is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def test_library_does_not_print():
    """print() belongs to scripts and to the main() of a `python -m` module."""
    for room in ROOMS:
        for path in modules(room):
            tree = ast.parse(path.read_text())
            runnable = any(is_main_guard(n) for n in tree.body)
            for function in [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.Module))]:
                if runnable and getattr(function, "name", "") == "main":
                    continue
                for node in ast.iter_child_nodes(function) if isinstance(function, ast.Module) else ast.walk(function):
                    call = node.value if isinstance(node, ast.Expr) else node
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print":
                        inside_main = runnable and any(
                            isinstance(f, ast.FunctionDef) and f.name == "main"
                            and f.lineno <= call.lineno <= f.end_lineno
                            for f in tree.body)
                        assert inside_main, f"{path.relative_to(ROOT)}:{call.lineno} prints"


def test_importing_does_no_work():
    """At module level: imports, definitions, constants, docstrings, the main guard. No loops, with or bare calls."""
    for room in ROOMS:
        for path in modules(room):
            for node in ast.parse(path.read_text()).body:
                bare = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
                work = isinstance(node, (ast.For, ast.While, ast.With)) or bare
                assert not work, f"{path.relative_to(ROOT)}:{node.lineno} works at import time"


def test_sizes():
    for path in [q for room in ROOMS for q in modules(room)] + sorted((ROOT / "tests").rglob("*.py")):
        assert len(path.read_text().splitlines()) <= 400, f"{path.relative_to(ROOT)} is over 400 lines"
    for script in SCRIPTS:
        most = 140 if script == "train.py" else 99
        assert len((ROOT / script).read_text().splitlines()) <= most, f"{script} is over {most} lines"


def compared_networks(tree: ast.AST, names: set[str]) -> list[int]:
    """Lines with a comparison, or a match, with a network's name."""
    def named(node: ast.AST) -> bool:
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            return any(named(element) for element in node.elts)
        return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Compare)
             and any(named(side) for side in (node.left, *node.comparators))]
    return found + [node.pattern.lineno for node in ast.walk(tree) if isinstance(node, ast.match_case)
                    and any(named(part) for part in ast.walk(node.pattern))]


def test_only_predictors_know_networks_by_name():
    """What a system can do is said by its Predictor's class attributes; elsewhere nobody compares with its name."""
    from Network import NETWORKS
    for path in [q for room in ROOMS for q in modules(room)] + [ROOT / script for script in SCRIPTS]:
        if path != ROOT / "Network" / "__init__.py" and path.parent != ROOT / "Network" / "inference":
            found = compared_networks(ast.parse(path.read_text()), set(NETWORKS))
            assert not found, f"{path.relative_to(ROOT)}:{found[0]} compares with a network's name"


@pytest.mark.parametrize("source, lines", [
    ('if config["network"] == "coarse":\n    pass', [1]), ('x = name in ("uvnet", "vrn")', [1]),
    ('x = "vrn" != name', [1]), ('match name:\n    case "compact":\n        pass', [2]),
    ('x = {"coarse": 1}[name]', []), ('x = name == "mean"', [])])
def test_comparisons_with_a_name_are_seen(source, lines):
    from Network import NETWORKS
    assert compared_networks(ast.parse(source), set(NETWORKS)) == lines


def test_top_level_is_the_users():
    import subprocess
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode or not tracked.stdout:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in tracked.stdout.splitlines()} <= ALLOWED_TOP


def test_pictures_of_the_pages_are_tracked():
    """An ignored picture is there for whoever made it, and for nobody else."""
    import re
    import subprocess
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            picture = (page.parent / name).resolve().relative_to(ROOT.resolve())
            assert picture.as_posix() in tracked, f"{page.name}: shows {picture}, which is not tracked"


def test_opencv_stays_below_five():
    """OpenCV 5 has no CascadeClassifier and ships no cascades."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needs = config["options"]["install_requires"].split()
    assert "opencv-python>=4.10,<5" in needs
