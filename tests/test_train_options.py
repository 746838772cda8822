"""train.py's flags: read off the source, equal to the real dataclasses, shown with the preset's values, fast."""
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import train
from Datagenerator.source import DATA_CONFIGS
from Network.commands.train_options import parse
from Network.config.declared import declared, explained
from Network.models.registry import NETWORKS, get_network
from Network.training import presets, settings
from Network.training.checkpoints import RunFolder
from Network.training.presets import PRESETS, resolve

ROOT = Path(__file__).resolve().parents[1]
FEEDS = declared("Datagenerator.source")["DATA_CONFIGS"]


def same(read: type, real: type) -> None:
    """Fields, their order, their defaults."""
    assert [(f.name, f.default) for f in dataclasses.fields(read)] == \
        [(f.name, f.default) for f in dataclasses.fields(real)], real


def test_what_is_read_off_the_source_is_what_is_there():
    for network, module in NETWORKS.items():
        real = get_network(network)
        same(declared(module)["Config"], real.config)
        assert {name: vars(config) for name, config in declared(module)["PRESETS"].items()} == \
            {name: vars(config) for name, config in real.presets.items()}
        assert declared(module)["TARGETS"] == real.targets
        same(FEEDS[real.targets], DATA_CONFIGS[real.targets])
    assert FEEDS.keys() == DATA_CONFIGS.keys()
    for name in ("Settings", "TrainConfig"):
        same(declared("Network.training.settings")[name], getattr(settings, name))
    assert declared("Network.training.presets")["PRESETS"] == presets.PRESETS
    notes = explained(declared("Network.training.settings")["Settings"])
    assert notes["optimizer"] == "adam, or rmsprop with decay 0.9"
    assert declared("math") == {}


def help_of(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse([*words, "--help"], "Train", FEEDS)
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("preset", PRESETS)
def test_help_shows_the_values_of_the_preset(capsys, preset):
    text, config = help_of(capsys, "--preset", preset), resolve(preset, {})
    for flag, value in (("--epochs EPOCHS", config["train"]["epochs"]),
                        ("--learning-rate LEARNING_RATE", config["train"]["learning_rate"]),
                        ("--schedule SCHEDULE", config["train"]["schedule"])):
        part = text.split(f"{flag} ")[-1]
        assert part[part.index("["):].startswith(f"[{value}]"), (flag, value, part[:200])
    assert f"Values shown are those of --preset {preset}." in text
    positions = [text.index(words) for words in ("--epochs EPOCHS at", "train, advanced", "--patience PATIENCE epochs")]
    assert positions == sorted(positions)


def test_typed_by_part_and_the_seed_has_one_home():
    arguments = parse(["x", "--epochs", "3", "--seed", "5", "--image-size", "64", "--no-squeeze"], "", FEEDS)
    assert arguments.typed == {"settings": {"seed": 5}, "train": {"epochs": 3}, "data": {"image_size": 64},
                               "model": {"squeeze": False}}


def test_a_run_goes_on_with_its_own_preset(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    run.start(resolve("compact", {}))
    words = ["x", "--run", str(run.path), "--resume"]
    assert parse(words, "", FEEDS).preset == "compact"
    assert parse([*words, "--batch-images", "8"], "", FEEDS).typed["data"] == {"batch_images": 8}    # compact's flag
    with pytest.raises(ValueError, match="was started with --preset compact, not uvnet; --resume goes on with its own"):
        parse([*words, "--preset", "uvnet"], "", FEEDS)
    assert parse([*words[:3], "--preset", "uvnet"], "", FEEDS).preset == "uvnet"        # no --resume: refused later
    assert train.main([*words, "--preset", "uvnet"]) == 2
    assert capsys.readouterr().err == (f"train.py: {run.path}: was started with --preset compact, not uvnet; --resume "
                                       "goes on with its own\n")
    (run.path / "config.json").write_text("{")
    assert parse(words, "", FEEDS).preset == "quick"


LIGHT = """
import json, sys
sys.argv = ["train.py", *sys.argv[1:]]
import train
try:
    code = train.main()
except SystemExit as ended:
    code = ended.code
heavy = [name for name in ("keras", "tensorflow", "numpy", "cv2", "jax") if name in sys.modules]
print(json.dumps([code, heavy]))
"""


@pytest.mark.parametrize("words, code", [(("--help",), 0), (("nowhere",), 2), (("nowhere", "--epoch", "3"), 2)])
def test_help_and_bad_input_need_nothing_heavy(words, code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", LIGHT, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stdout.splitlines()[-1]) == [code, []], done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    if words == ("nowhere",):
        assert done.stderr == "train.py: nowhere: no such folder\n"
