"""Flags from dataclasses, presets, and what a resumed run may change."""
import argparse
import os
from dataclasses import dataclass

import keras
import pytest
from keras.src.backend.common import global_state

from Network.config.flags import add_flags, check_sizes, from_dict, given, silence_tensorflow
from Network.config.limits import cost_of
from Network.training.checkpoints import RunFolder, model_from_config
from Network.training.presets import PRESETS, resolve
from Network.training.settings import Settings


@dataclass(frozen=True)
class Example:
    """Every kind of field that a config has."""

    batch_size: int = 5
    rate: float = 1e-4
    squeeze: bool = True
    name: str = "a"
    images: int | None = None
    filters: tuple[int, ...] = (1, 2)


def parse(*words: str) -> dict:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    add_flags(parser, Example, "example")
    return given(parser.parse_args(words), Example)


def test_only_what_was_typed():
    assert parse() == {}
    assert parse("--batch-size", "2", "--no-squeeze") == {"batch_size": 2, "squeeze": False}


@pytest.mark.parametrize("words, expected", [
    (("--rate", "0.5"), {"rate": 0.5}), (("--squeeze",), {"squeeze": True}), (("--images", "8"), {"images": 8}),
    (("--images", "none"), {"images": None}), (("--filters", "3,4,5"), {"filters": (3, 4, 5)}),
    (("--name", "b"), {"name": "b"})])
def test_types(words, expected):
    assert parse(*words) == expected


@pytest.mark.parametrize("words", [("--batch", "2"), ("--batch-sise", "2"), ("--batch-size", "two"), ("--rate", "x")])
def test_unknown_flags_and_wrong_types_are_errors(words):
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parse(*words)


def test_from_dict():
    assert from_dict(Example, {"filters": [3, 4]}) == Example(filters=(3, 4))
    with pytest.raises(ValueError, match="unknown setting batchsize"):
        from_dict(Example, {"batchsize": 3})


@pytest.mark.parametrize("values, message", [
    ({"block_filters": (1, 10**9)}, "block_filters must be at most 65536, got 1000000000"),
    ({"decoder_blocks": 10**6}, "decoder_blocks must be at most 64, got 1000000"),
    ({"block_repeats": (1, 65)}, "block_repeats must be at most 64, got 65"),
    ({"layers": (1,) * 65}, "layers must have at most 64 values, got 65")])
def test_sizes_have_a_maximum(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_sizes(values)


def test_a_networks_config_is_checked_before_it_is_built():
    config = resolve("thesis", {})
    for build in (lambda: resolve("thesis", {"model": {"decoder_blocks": 10**6}}),
                  lambda: model_from_config({**config, "model": {**config["model"], "decoder_blocks": 10**6}})):
        with pytest.raises(ValueError, match="decoder_blocks must be at most 64, got 1000000"):
            build()


def test_the_thesis_preset_is_the_thesis():
    config = resolve("thesis", {})
    assert config["train"]["learning_rate"] == 1e-4 and config["train"]["epochs"] == 300
    assert config["train"]["patience"] == 30 and config["train"]["halve_every"] == 10
    assert config["settings"]["split"] == "train-test" and config["settings"]["precision"] == "auto"
    assert config["model"]["points"] == 2**14 and config["model"]["squeeze"] is True
    assert not config["settings"]["jit"]


def test_typed_values_win_over_the_preset_and_sizes_are_shared():
    config = resolve("quick", {"train": {"epochs": 2}, "data": {"points": 256}})
    assert config["train"]["epochs"] == 2
    assert config["data"]["points"] == config["model"]["points"] == 256
    assert config["train"]["learning_rate"] == PRESETS["quick"]["train"]["learning_rate"]


@pytest.mark.parametrize("name, value", [("precision", "int8"), ("split", "none"), ("strategy", "tpu")])
def test_bad_settings(name, value):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got '{value}'"):
        Settings(**{name: value})


def test_unknown_preset():
    with pytest.raises(ValueError, match=r"preset must be one of thesis, quick, .*got 'fast'"):
        resolve("fast", {})


def test_a_resumed_run_keeps_its_config(tmp_path):
    run = RunFolder(tmp_path)
    config = resolve("quick", {})
    run.start(config)
    typed = {"train": {"epochs": 99}, "data": {"batch_size": PRESETS["quick"]["data"]["batch_size"]}}
    assert run.resumed(typed)["train"]["epochs"] == 99
    with pytest.raises(ValueError, match="was started on data with other subjects"):
        run.checked(config, {"subjects": {"training": ["S000"]}})
    assert run.checked({**config, "subjects": {"validation": [0, 3]}}, {"subjects": {"validation": (0, 3)}})
    # what older runs did not say is no reason to refuse them; what a run says is
    assert run.checked(config, {"face_model": "f00d"}) is config
    with pytest.raises(ValueError, match="was started on data with other face_model"):
        run.checked({**config, "face_model": "c0de"}, {"face_model": "f00d"})
    begun = RunFolder(tmp_path / "resolved")
    begun.start({**config, "settings": {**config["settings"], "precision": "mixed_bfloat16"}})
    assert begun.resumed({"settings": {"precision": "auto"}})["settings"]["precision"] == "mixed_bfloat16"
    with pytest.raises(ValueError, match="was started with precision = 'mixed_bfloat16', not 'float32'"):
        begun.resumed({"settings": {"precision": "float32"}})
    with pytest.raises(ValueError,
                       match="was started with learning_rate = .*, not 0.5; a resumed run can change epochs"):
        run.resumed({"train": {"learning_rate": 0.5}})


@pytest.mark.parametrize("values, message", [
    ({"batch_size": 2.0}, "batch_size must be a whole number, got 2.0"),
    ({"batch_size": True}, "batch_size must be a whole number, got True"),
    ({"batch_size": "9" * 99}, "batch_size must be a whole number, got '9+\\.\\.\\."),
    ({"batch_size": 10**5000}, "batch_size must be at most 65536, got a number of 16610 bits"),
    ({"batch_size": -10**9}, "batch_size must be at least -65536, got -1000000000"),
    ({"rate": float("nan")}, "rate must be a finite number, got nan"), ({"rate": [1.0]}, "rate must be a finite"),
    ({"squeeze": 1}, "squeeze must be true or false, got 1"), ({"name": None}, "name must be text, got None"),
    ({"images": "8"}, "images must be a whole number or null, got '8'"),
    ({"filters": 3}, "filters must be a list, each a whole number, got 3"),
    ({"filters": [1, [2]]}, r"filters must be a list, each a whole number, got \(1, \[2\]\)"),
    ({"filters": [1] * 65}, "filters must have at most 64 values")])
def test_wrong_types_and_sizes_of_a_json_are_one_line(values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        from_dict(Example, values)
    assert from_dict(Example, {"rate": 1, "images": None, "filters": []}) == Example(rate=1, filters=())


@pytest.mark.parametrize("preset, values, message", [
    ("vrn", {"features": 65536, "hourglasses": 8}, "may have at most 268435456 parameters, this one would have"),
    ("vrn", {"depth": 60}, "image_size must be a multiple of"),
    ("uvnet", {"growth": 1e9}, "at most 268435456"), ("compact", {"image_size": 65536}, "be at most 4096, got 65536"),
    ("compact", {"image_size": 4096}, "numbers between its layers"),
    ("thesis", {"images": 60000}, "numbers between its layers")])
def test_fields_that_are_large_together_are_counted_before_memory_is_taken(preset, values, message):
    config = resolve(preset, {})
    with pytest.raises(ValueError, match=message):
        model_from_config({**config, "model": {**config["model"], **values}})
    kept = global_state.get_global_attribute("uninitialized_variables")
    assert not kept


def test_a_model_is_counted_without_weights():
    def build():
        image = keras.Input((4, 4, 3))
        inner = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(1, 1)])
        return keras.Model(image, inner(keras.layers.Conv2D(2, 3, padding="same")(image)))
    assert cost_of(build) == (3 * 3 * 3 * 2 + 2 + 3, 4 * 4 * 3 + 4 * 4 * 2 + 4 * 4)
    assert cost_of(lambda: keras.Sequential([keras.Input((10**6,)), keras.layers.Dense(10**8)])) == (
        10**14 + 10**8, 10**8)


def test_tensorflow_is_silent_unless_the_environment_says_otherwise(monkeypatch):
    for said, level in ((None, "3"), ("0", "0")):
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        if said is not None:
            monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", said)
        silence_tensorflow()
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == level
