"""Cases of tests/bench/hostile.py: command lines, settings, outputs that cannot be written, arguments of the API."""
from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from tests.bench.hostile_cases import VALUES, Case, bundled, find, refusal

BIG, SQUARED = str(10**20), "\u00b2"        # the second is a digit, and no number
NUMBERS = (BIG, "-1", "0", "nan", "inf", SQUARED, "9" * 5000, "1e999", "")


def loaded(*modules: str) -> None:
    """Import what there is of some modules, so that the children of this process need not do it again and again."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def ended(module: str, words: list[str], whole: Callable[[], str] = lambda: "") -> str:
    """A command line's end. whole: says what is left on the disk, of a command that refused."""
    try:
        main = importlib.import_module(module).main
    except (ImportError, AttributeError):
        return "absent"
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [module, *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    said = err.getvalue().strip()
    if "Traceback" in said or "Traceback" in out.getvalue():
        return f"traceback: {said[-200:]}"
    if not code:
        return "fine"
    left = whole()
    if left:
        return f"wrong: left {left}"
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith(("usage:", " "))]
    return "clear" if code in (1, 2) and lines else f"wrong: code {code}, {said[-200:]!r}"


def flags(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    def case(kind: str, module: str, *words: str) -> Case:
        loaded(module)
        return f"flags: {kind}", lambda: ended(module, list(words))
    none = str(folder / "none.jpg")
    loaded("Datagenerator.loading.pipeline", "Datagenerator.source", "Evaluation.views.epoch_images",
           "Network.training.step", "Network.training.tf_step", "Network.training.trainer", "Network.training.loading")
    for flag in ("frames", "iterations", "box", "window", "cutoff", "beta", "detect-every", "first-passes",
                 "confidence", "remember", "port"):
        for number in [n for n in NUMBERS if flag != "port" or n != "0"][:max(2, count // 6)]:     # 0: serves
            out = ("-o", str(folder / "a.mp4")) if flag not in ("iterations", "box", "port", "frames") else ()
            yield case("demo.py", "demo", "--serve" if flag == "port" else none, f"--{flag}", number, *out)
    for flag in ("images", "batch-size", "orders", "compare-subjects", "iterations", "seed", "table"):
        for number in NUMBERS[:max(2, count // 6)]:
            yield case("evaluate.py", "evaluate", "--data", none, "--model", none, f"--{flag}", number)
    yield case("evaluate.py", "evaluate", SQUARED, SQUARED, none, none)
    lists = ("1000000000,1000000000", ",".join(["9"] * 1000), "x", "1,,1")
    for preset, names in (("vrn", "depth features hourglasses layers image-size epochs batch-size stem"),
                          ("thesis", "points images lstm-filters decoder-blocks repeats patience seed batch-size"),
                          ("compact", "encoder-filters encoder-blocks refinements batch-images window reuse"),
                          ("uvnet", "levels growth kernel-sizes features"), ("coarse", "blocks filters expansion"),
                          ("pix2pix", "filters dropout-levels noise-channels learning-rate")):
        for name in names.split():
            for value in (*NUMBERS[:max(1, count // 10)], *lists[:max(1, count // 20)]):
                yield case("train.py", "train", str(folder), "--preset", preset, "--run", str(folder / "run"),
                           f"--{name}={value}")
    for module, names in (("Dataset.synthetic", "subjects images size points yaw expression quality seed"),
                          ("Dataset.shards", "subjects images size seed margin detect clutter buffers"),
                          ("Dataset.synthetic_video", "frames rate width height subjects seed head noise"),
                          ("Dataset.bu4dfe", "points size crop-mm neutral-window seed"),
                          ("Dataset.texas3d", "size seed points held-out pixel level")):
        given = [str(folder / "none")] if module in ("Dataset.bu4dfe", "Dataset.texas3d") else []
        for name in names.split():
            bad = [number for number in NUMBERS if number not in ("0", "")]
            for number in bad[:max(1, count // 10)]:
                yield case(module, module, *given, str(folder / "made.mp4"), f"--{name}={number}")
    yield from settings(rng, count)


def settings(rng: np.random.Generator, count: int) -> Iterator[Case]:
    """Models of hostile configs, built and dropped."""
    presets = ("thesis", "quick", "compact", "uvnet", "pix2pix", "vrn", "coarse")

    def case(preset: str, field: int, value: Any) -> str:
        try:
            resolve = find("Network.training.presets:resolve", "Network.presets:resolve")
            build = find("Network.training.checkpoints:model_from_config", "Network.checkpoints:model_from_config")
            config = resolve(preset, {})
        except (LookupError, ValueError):
            return "absent"
        names = sorted(config["model"])
        config["model"][names[field % len(names)]] = value
        try:
            build(json.loads(json.dumps(config)))
        except ValueError as error:
            return refusal(error)
        return "fine"
    loaded("Network.training.presets", "Network.presets", "Network.training.checkpoints", "Network.checkpoints")
    large = (1, 64, 512, 4096, 60000, 10**6, 10**9, [60000] * 8, [64] * 64, 10**20)
    for _ in range(count):
        preset, field = presets[int(rng.integers(len(presets)))], int(rng.integers(100))
        value = (VALUES + large)[int(rng.integers(len(VALUES) + len(large)))]
        yield "settings: config", lambda p=preset, f=field, v=value: case(p, f, v)


# --- outputs ------------------------------------------------------------------------------------------------------
def outputs(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    """Every script that writes, onto what cannot be written."""
    photo = ["--example"]
    commands: list[tuple[str, str, Callable[[str], list[str]], bool]] = [
        ("demo", "face.ply", lambda out: [*photo, "-o", out], True),
        ("demo", "face.obj", lambda out: [*photo, "--view", "lines", "-o", out], True),
        ("evaluate", "table", lambda out: ["--table", "1", "--results", out], True),
        ("Evaluation.web.viewer", "index.html", lambda out: [str(bundled()), "-o", out], True),
        ("Dataset.synthetic_video", "a.avi", lambda out: [out, "--frames", "2", "--width", "64", "--height", "64"],
         True),
        ("Network.export.pack", "packed", lambda out: [str(bundled()), "-o", out], True),
        ("Dataset.synthetic", "made", lambda out: [out, "--subjects", "1", "--images", "1", "--size", "32", "--points",
                                                   "64"], False),
        ("Dataset.shards", "made", lambda out: [out, "--subjects", "1", "--images", "1", "--size", "32"], False),
        ("Dataset.validate", "made", lambda out: [out], False), ("Dataset.frozen", "made", lambda out: [out], False),
        ("train", "run", lambda out: [str(folder), "--run", out], False),
        ("Dataset.adopt", "face.npz", lambda out: [out, "-o", out], True)]
    for module, name, words, whole in commands[:max(3, count)]:
        loaded(module)
        for situation in ("loop", "under a file", "a folder", "read-only", "full"):
            yield f"output: {situation}", lambda m=module, n=name, w=words, s=situation, t=whole: _written(
                folder, m, n, w, s, t)


def _written(folder: Path, module: str, name: str, words: Callable[[str], list[str]], situation: str, whole: bool
             ) -> str:
    here = folder / f"out{os.getpid()}"
    here.mkdir()
    out = here / name
    match situation:
        case "loop":
            (here / "loop").symlink_to(here / "loop")
            out = here / "loop" / name
        case "under a file":
            (here / "file").write_text("")
            out = here / "file" / name
        case "a folder":
            (out / "inside").mkdir(parents=True)
        case "read-only":
            out = Path("/proc") / name
        case "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    def left() -> str:
        allowed = {"loop", "file", "inside", name} if situation == "a folder" else {"loop", "file"}
        found = [path.name for path in here.rglob("*") if path.name not in allowed] if whole else []
        return ", ".join(sorted(found)[:5])
    try:
        return ended(module, words(str(out)), left)
    finally:
        shutil.rmtree(here, ignore_errors=True)


# --- arguments ----------------------------------------------------------------------------------------------------
def arguments(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    cloud = rng.normal(size=(50, 3))
    clouds = (np.full((50, 3), 1e308), cloud * 1e200, np.zeros((0, 3)), cloud[:, :2], cloud * np.nan, None, "x",
              [[1, 2]], cloud.astype(str), cloud * np.inf, np.array([{}] * 3))
    for bad in clouds:
        for pair in ((bad, cloud), (cloud, bad)):
            def case(pair: tuple = pair) -> str:
                try:
                    find("Evaluation.icp:icp")(*pair)
                except ValueError as error:
                    return refusal(error)
                return "wrong: was accepted"
            yield "arguments: icp", case
    face = rng.integers(0, 256, (90, 80, 3)).astype(np.uint8)
    images = [None, "x", 3, np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.int64), face[..., :2], face * np.nan,
              face.astype(np.float32), face[None], face.astype(np.uint16), np.full(face.shape, np.inf), [1, 2],
              np.zeros((90, 80, 4), np.uint8), np.array(None), -face.astype(float) / 255]
    loaded("Network.inference.registry", "Network.inference.compact", "Network.predict")
    for chunk in (images[:8], images[8:])[:1 + (count > 10)]:
        yield "arguments: Predictor", lambda c=chunk: _predictor(c)


def _predictor(images: list[Any]) -> str:
    """Each image must be refused, and change nothing."""
    try:
        predictor = find("Network:from_preset", "Network:load_pretrained")("compact")
    except LookupError:
        return "absent"
    crop = np.random.default_rng(0).integers(0, 256, (predictor.size, predictor.size, 3)).astype(np.uint8)
    for image in images:
        for call in (predictor.add, lambda one: predictor.subject([crop, one]), predictor.photo, predictor.predict):
            before = predictor.face, predictor.count
            try:
                call(image)
            except ValueError as error:
                if "\n" in str(error) or type(error).__name__ == "NoFace":
                    return f"wrong: {type(error).__name__} {str(error)[:200]!r}"
            else:
                return f"wrong: accepted {str(image)[:60]} as {getattr(image, 'dtype', type(image))}"
            if (predictor.face, predictor.count) != before:
                return "wrong: the state changed"
    return "clear"
