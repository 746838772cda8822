"""Numbers of the scripts' command lines: each has a maximum, which is checked before anything is read or made."""
import pytest

import demo
from Evaluation.reports.options import LIMITS
from Evaluation.reports.options import parse as evaluate_options
from Network.training.presets import PRESETS, SHARED, resolve

HUGE = str(10**20)


@pytest.mark.parametrize("words, message", [
    (["--frames", "0"], "--frames must be within 1 to 216000, got 0"),
    (["--frames", HUGE], f"--frames must be within 1 to 216000, got {HUGE}"),
    (["--iterations", "1001"], "--iterations must be within 0 to 1000, got 1001"),
    (["--box", f"1,2,3,{HUGE}"], "--box must lie on the photo"),
    (["-o", "a.mp4", "--first-passes", HUGE], "first_passes must be at most 65536, got"),
    (["-o", "a.mp4", "--beta", "nan"], "beta must be a finite number, got nan"),
    (["--frames", "\u00b2"], "invalid int value")])
def test_demo_refuses_numbers_without_bound(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        demo.parse("", demo.ServeConfig, demo.VIEWS, ["photo.jpg", *words])
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("name", LIMITS)
def test_evaluate_refuses_numbers_without_bound(name, capsys):
    flag = f"--{name.replace('_', '-')}"
    for number in (str(LIMITS[name][0] - 1), HUGE, "\u00b2", "nan"):
        with pytest.raises(SystemExit) as end:
            evaluate_options("", ["--data", "a", "--model", "b", f"{flag}={number}"])
        assert end.value.code == 2 and flag in capsys.readouterr().err.splitlines()[-1]
    for number in LIMITS[name]:
        assert getattr(evaluate_options("", ["--data", "a", "--model", "b", flag, str(number)]), name) == number


def test_digits_that_are_no_numbers_are_refused_in_the_thesis_order(capsys):
    with pytest.raises(SystemExit) as end:
        evaluate_options("", ["\u00b2", "\u00b2", "a", "b"])
    assert end.value.code == 2 and "the first two whole numbers" in capsys.readouterr().err


@pytest.mark.parametrize("preset", PRESETS)
def test_every_whole_number_of_a_training_has_a_maximum(preset):
    config = resolve(preset, {})
    for part in ("settings", "train", "model"):
        for name, value in config[part].items():
            if isinstance(value, int) and not isinstance(value, bool) and name not in SHARED:
                with pytest.raises(ValueError, match=f"{name} must be at (most|least) "):
                    resolve(preset, {part: {name: 10**20}})
