"""Dataset/io/json_files.py, archives/npz.py, command.py: bounds, and one line."""
import errno
import io
import json
import os
import sys
import time
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from Dataset.face_model.readers.basel import read_basel_2009, read_basel_2017
from Dataset.face_model.readers.ict import obj_vertices
from Dataset.io.archives.npz import read_npz
from Dataset.io.command import DEBUG, one_line, run_command
from Dataset.io.json_files import MAX_DEPTH, depth_of, parse_json, read_json
from tests.face_files import make, write_basel_2009, write_basel_2017
from tests.memory import clear_peak, peak


@pytest.mark.parametrize("text, rule", [
    ("[" * 10**6, "nested"), ('{"a":' * 100 + "1" + "}" * 100, "nested"), ("[1]", "must hold a JSON object"),
    ("", "is no JSON"), ('{"a": 1', "is no JSON"), ("9" * 10_000, "is no JSON|object")])
def test_bad_json_is_one_line(tmp_path, text, rule):
    (tmp_path / "x.json").write_text(text)
    begun = time.process_time()
    with pytest.raises(ValueError, match=f"x.json: .*({rule})") as error:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(error.value) and time.process_time() - begun < 5


def test_json_files_are_bounded_and_named(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"a": "x" * 100}))
    assert read_json(tmp_path / "x.json") == {"a": "x" * 100}
    with pytest.raises(ValueError, match="x.json: a JSON file may have at most 50 bytes"):
        read_json(tmp_path / "x.json", max_bytes=50)
    for name in ("none.json", "."):
        with pytest.raises(ValueError, match="cannot be read|must be a file, is a folder"):
            read_json(tmp_path / name)
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="x.json: cannot be read .no UTF-8 text"):
        read_json(tmp_path / "x.json")


def test_brackets_within_strings_do_not_nest():
    assert depth_of(r'{"a[[[{": "\"[[\\", "b": [1, {"c": []}]}') == 4
    assert parse_json('{"a": "' + "[" * 500 + '"}', "x") == {"a": "[" * 500}
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deepest, "x", list)


def npz(path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)


def npy(array: np.ndarray, **change) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=True)
    data = data.getvalue()
    for old, new in change.values():
        assert old in data
        data = data.replace(old, new)
    return data


def test_arrays_come_back(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(3, 2)),
              "empty": np.zeros((0, 4), np.float32), "name": np.array("text"), "scalar": np.array(3)}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].flags.writeable


def test_promises_are_checked_before_memory_is_taken(tmp_path):
    many = npy(np.zeros(4), shape=(b"(4,), }" + b" " * 12, b"(9999999999999,), }"))
    npz(tmp_path / "x.npz", {"a": many})
    with pytest.raises(ValueError, match="x.npz: .*a.npy promises 9999999999999 numbers"):
        read_npz(tmp_path / "x.npz")
    npz(tmp_path / "x.npz", {"a": npy(np.zeros(10**6))})
    assert (tmp_path / "x.npz").stat().st_size < 20_000
    with pytest.raises(ValueError, match="x.npz: .*unpacks to 8000128 bytes, at most 1000000"):
        read_npz(tmp_path / "x.npz", 10**6)
    npz(tmp_path / "x.npz", {"a": npy(np.array([{}]))})
    with pytest.raises(ValueError, match="a.npy holds objects"):
        read_npz(tmp_path / "x.npz")


def test_flipped_bits_and_cut_files_are_one_line(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.random.default_rng(0).normal(size=500), b=np.arange(3))
    whole, rng = (tmp_path / "x.npz").read_bytes(), np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(whole[:int(rng.integers(len(whole)))] if rng.random() < 0.2 else whole)
        if data:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "y.npz").write_bytes(data)
        try:
            read_npz(tmp_path / "y.npz")
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path / 'y.npz'}: ") and "\n" not in str(error)


@pytest.mark.parametrize("error, line", [
    (ValueError("x.ply: two\nlines"), "x.ply: two lines"),
    (OSError(errno.ENOSPC, "No space left", "a.ply"), "a.ply: No space"),
    (MemoryError(), "not enough memory"), (RecursionError("deep"), "nested too deeply"),
    (zlib.error("bits"), "damaged .bits"),
    (OverflowError("too large"), "too large"), (ValueError(), "ValueError")])
def test_bad_input_is_one_line_and_2(capsys, error, line, monkeypatch):
    def work():
        raise error
    assert run_command("tool", work) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and shown.startswith("tool: ")
    with pytest.raises(AssertionError, match=line):
        raise AssertionError(shown)
    monkeypatch.setenv(DEBUG, "1")
    assert run_command("tool", work) == 2 and "Traceback" in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback():
    def work():
        raise KeyError("a bug")
    with pytest.raises(KeyError):
        run_command("tool", work)
    assert run_command("tool", lambda: None) == 0 and run_command("tool", lambda: 3) == 3


def test_the_decorator_hands_argv_over_and_says_how_to_go_on(capsys):
    """main(argv) keeps its name and help."""
    @one_line("tool", resumable=True)
    def main(argv=None):
        """Its help."""
        if argv == ["stop"]:
            raise KeyboardInterrupt
        return len(argv)
    assert main(["a", "b"]) == 2 and main.__doc__ == "Its help." and main(["stop"]) == 130
    assert capsys.readouterr().err == "tool: stopped; the same command goes on\n"


def test_debug_is_a_flag_of_every_command(capsys):
    """It is taken out of the command line, shows the traceback, and stands in the help."""
    @one_line("tool")
    def main(argv=None):
        if argv == ["--help"]:
            raise SystemExit(0)
        raise ValueError(f"bad {argv}")
    assert main(["a", "--debug", "b"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.endswith("tool: bad ['a', 'b']\n")
    assert main(["--", "--debug"]) == 2 and capsys.readouterr().err == "tool: bad ['--', '--debug']\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize("module, name, line", [
    ("cv2", "error", "allocate"),
    ("tensorflow.python.framework.errors_impl", "ResourceExhaustedError", "not enough memory")])
def test_errors_of_libraries_are_one_line(capsys, module, name, line):
    kind = type(name, (Exception,), {"__module__": module})

    def work():
        raise kind("failed to allocate")
    assert run_command("tool", work) == 2 and line in capsys.readouterr().err
    unknown = type(name, (Exception,), {"__module__": "other"})

    def fault():
        raise unknown("x")
    with pytest.raises(unknown):
        run_command("tool", fault)


def test_libraries_are_silent_and_the_line_is_not(capfd):
    """What is written to the descriptor past Python is dropped, but for --debug; Python's own is kept."""
    def work():
        os.write(2, b"libpng warning\n")
        print("ours", file=sys.stderr)
    assert run_command("tool", work) == 0 and capfd.readouterr().err == "ours\n"
    assert run_command("tool", work, debug=True) == 0 and "libpng" in capfd.readouterr().err
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_some_arrays_of_a_file(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.arange(4))
    assert read_npz(tmp_path / "x.npz", names=("b", "c")).keys() == {"b"}


def test_arrays_are_unpacked_into_their_own_memory(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.ones(6_000_000))
    before = clear_peak()
    found = read_npz(tmp_path / "x.npz")["a"]
    assert peak() - before < 70 << 20       # 48 MB, and a part
    assert found.sum() == 6_000_000 and found.flags.writeable


@pytest.mark.parametrize("vertices, count, sigmas, rule", [
    (200_001, 5, 5, r"mean of shape \(600003,\) is too large"), (1000, 501, 501, "(pcaBasis|Variance).* is too large"),
    (200_000, 500, 500, "too large for a face model, which has at most 1024 MB"),
    (1000, 5, 6, "must be .3V,., .3V, K. and .K,. of one V")])
def test_the_shapes_of_a_face_model_are_checked_before_it_is_unpacked(tmp_path, vertices, count, sigmas, rule):
    """Zeros that gzip packs a thousandfold; here nothing is even written of them."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name, shape in (("model/mean", (3 * vertices,)), ("model/pcaBasis", (3 * vertices, count)),
                            ("model/pcaVariance", (sigmas,)), ("representer/cells", (3, 10))):
            file.create_dataset(f"shape/{name}", shape, "f4", compression="gzip", chunks=shape)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match=f"m.h5: .*{rule}") as error:
        patch.setattr("Dataset.face_model.readers.basel.check_hdf5", lambda *_, **__: None)
        read_basel_2017(tmp_path / "m.h5")
    assert "\n" not in str(error.value)


def test_complex_numbers_are_no_face_model(tmp_path):
    """Their imaginary part was left out without a word."""
    made = make()
    found = scipy.io.loadmat(write_basel_2009(tmp_path / "m.mat", made))
    found["shapePC"] = found["shapePC"] + 1j
    scipy.io.savemat(tmp_path / "m.mat", {name: found[name] for name in found if name[0] != "_"})
    with pytest.raises(ValueError, match="m.mat: shapePC must be an array of real numbers, received complex"):
        read_basel_2009(tmp_path / "m.mat")
    with h5py.File(write_basel_2017(tmp_path / "m.h5", made), "a") as file:
        variance = file["shape/model/pcaVariance"][()] + 1j
        del file["shape/model/pcaVariance"]
        file["shape/model/pcaVariance"] = variance
    with pytest.raises(ValueError, match="m.h5: shape/model/pcaVariance must be an array of real numbers, received c"):
        read_basel_2017(tmp_path / "m.h5")


@pytest.mark.parametrize("text, rule", [
    ("v 0 0 1_0\n", "v must be numbers, received '1_0'"), ("v 0 0 \u0661\n", "v must be numbers"),
    ("v 0 0 nan\n", "finite"), ("v 0 0\n", "a vertex must have 3 numbers"), ("#\x0cv 1 2 3\n", r"received \(0, 3\)"),
    ("v 1 2 3\nv 4 5 6\n", r"the mean's 1 vertices, received \(2, 3\)"), ("v " + "1 " * 600_000, "a line may have")])
def test_a_mesh_of_ict_facekit_has_plain_numbers(tmp_path, text, rule):
    (tmp_path / "x.obj").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"x.obj: .*{rule}") as error:
        obj_vertices(tmp_path / "x.obj", 1)
    assert "\n" not in str(error.value)
