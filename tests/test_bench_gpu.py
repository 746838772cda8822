"""tests/bench/gpu.py on a machine without a GPU: what it says, its configurations, its verdict, a step on the CPU."""
import math

import pytest

from tests.bench import gpu
from tests.commands import command

RIGHT = {"losses": [2.0, 1.0, 0.5], "speed": 100.0, "gflop": 3.0}
CASE = gpu.Case("uvnet", "tensorflow", "float32", False, 2, 80, 5)


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "DEVICE", tmp_path / "nvidia0")
    monkeypatch.setattr(gpu, "child", None)             # nothing is started
    done = command(gpu.main)
    assert done.returncode == 0 and done.stdout == "no NVIDIA GPU on this machine: nothing is measured\n"


def test_a_driver_without_libraries(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "DEVICE", tmp_path)
    monkeypatch.setattr(gpu, "child", lambda *arguments: {"devices": []})
    done = command(gpu.main)
    assert done.returncode == 0 and "tensorflow: no GPU for it (its list is empty)" in done.stdout


def test_every_configuration_occurs_once():
    found = gpu.cases(4, 20, list(gpu.NETWORKS), list(gpu.BACKENDS))
    assert len(set(map(repr, found))) == len(found) == 3 * (2 * 2 * 2 + 2)
    assert {case.devices for case in found if case.backend == "jax"} == {1}
    assert all(case.jit for case in found if case.backend == "jax")
    assert {(case.devices, case.samples) for case in found if case.preset == "uvnet"} == {(1, 40), (4, 160)}
    assert len(gpu.cases(1, 20, ["compact"], ["tensorflow"])) == 4


def test_losses_decide():
    row, good = gpu.row_of(CASE, RIGHT, [2.0, 1.0, 0.5], 1000.0)
    assert good and row == ["uvnet", "tensorflow", "float32", "off", "2", "100.0", "15.0 %", "1.0000 1.0000 1.0000"]
    row, good = gpu.row_of(CASE, RIGHT, [2.0, 1.0, 0.45], 1000.0)
    assert not good and row[-1].endswith("DIFFERS")
    assert gpu.row_of(CASE._replace(precision="mixed_bfloat16"), RIGHT, [2.0, 1.0, 0.46], 1000.0)[1]
    assert not gpu.row_of(CASE, {**RIGHT, "losses": [math.nan] * 3}, [2.0, 1.0, 0.5], 1000.0)[1]
    assert not gpu.row_of(CASE, RIGHT, [], 1000.0)[1]
    row, good = gpu.row_of(CASE, {"error": "a|b"}, [2.0], 1000.0)
    assert not good and row[-1] == "a/b"
    assert gpu.row_of(CASE, {**RIGHT, "gflop": math.nan}, [2.0, 1.0, 0.5], 1000.0)[0][6] == "-"


def test_the_whole_run(monkeypatch, tmp_path):
    """With children that answer at once: one reference and one peak for all that share them, a table, the verdict."""
    asked = []

    def child(words, devices, backend):
        asked.append((words["what"], devices, backend))
        if words["what"] == "devices":
            return {"devices": ["Made GPU"] if backend == "tensorflow" else []}
        return {"peak": 1000.0} if words["what"] == "peak" else RIGHT
    monkeypatch.setattr(gpu, "DEVICE", tmp_path)
    monkeypatch.setattr(gpu, "child", child)
    done = command(gpu.main, "--networks", "uvnet", "--out", tmp_path / "gpu.md")
    assert done.returncode == 0 and "jax: no GPU for it" in done.stdout
    assert asked.count(("case", 0, "tensorflow")) == 1 and asked.count(("case", 1, "tensorflow")) == 4
    assert asked.count(("peak", 1, "tensorflow")) == 2
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("**1 x Made GPU**") and text.count("| uvnet |") == 4 and "30.0 %" in text
    monkeypatch.setattr(gpu, "child", lambda words, *more: {"error": "no memory"} if words["what"] == "case"
                        and words["case"].jit else child(words, *more))
    assert command(gpu.main, "--networks", "uvnet").returncode == 1


@pytest.mark.parametrize("preset, model", [
    ("uvnet", {"image_size": 32, "levels": 2, "first_features": 4}),
    ("compact", {"image_size": 32, "encoder_filters": (4, 4, 4, 4, 4), "pyramid_filters": 8, "fine_filters": 4,
                 "refine_filters": 4, "appearance": 4})])
def test_a_step_on_the_cpu(preset, model):
    """The child's work with a tiny network: losses of three updates, the same ones each time."""
    case = gpu.Case(preset, "tensorflow", "float32", False, 0, 2, 1, model)
    found, again = gpu.run_case(case), gpu.run_case(case)
    assert len(found["losses"]) == 3 and all(map(math.isfinite, found["losses"])) and math.isnan(found["speed"])
    assert found["losses"] == pytest.approx(again["losses"], rel=1e-4)
    assert found["losses"][0] != found["losses"][2]


def test_other_networks_have_no_data():
    with pytest.raises(ValueError, match="network must be convlstm, compact or uvnet"):
        gpu.made_batch("vrn", {"image_size": 8}, 1)
