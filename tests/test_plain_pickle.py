"""Dataset/face_model/readers/plain_pickle.py: numpy's own pickles come back, nothing else is run, nothing breaks it."""
import itertools
import pickle
import time

import numpy as np
import pytest

from Dataset.face_model.readers.flame import _is_needed
from Dataset.face_model.readers.plain_pickle import MAX_OPCODES, Name, array_of, read_plain
from tests.face_files import make, write_flame

SECONDS = 5.0       # that no file of these sizes may take


def read(data: bytes):
    return read_plain(data, _is_needed)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i4", ">u2", "|u1", "|b1", "<i8"])
def test_arrays_come_back(protocol, dtype):
    rng = np.random.default_rng(0)
    for shape, order in itertools.product([(), (0, 3), (5,), (4, 3), (2, 3, 4)], "CF"):
        array = np.asarray(rng.integers(0, 2, shape) if dtype == "|b1" else rng.integers(0, 200, shape), dtype, order)
        found = array_of(read(pickle.dumps(array, protocol)))
        assert found.dtype == array.dtype and found.flags.writeable
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back(protocol):
    numbers = [1, -2, 70_000, 2 ** 40, -2 ** 70, True, False, None, 0.5]
    value = {"a": numbers, "b": ("x", "\u00e4\u4e16", b"raw\xff"), 3: {}}
    found = read(pickle.dumps(value, protocol))
    assert found["a"] == numbers and found[3] == {} and found["b"][:2] == value["b"][:2]
    old = found["b"][2]
    assert old == b"raw\xff" or old.function == Name("_codecs", "encode") and old.arguments == ("raw\xff", "latin1")


def test_text_of_python_2():
    assert read(b"S'ab\\x41\\xff'\np0\n.") == "abA\xff"
    assert read(b"U\x02a\xff.") == "a\xff" and read(b"T\x02\x00\x00\x00a\xff.") == "a\xff"
    for bad in (b"S__import__('os')\n.", b"S1\n.", b"S'a\n."):
        with pytest.raises(ValueError):
            read(bad)


class Evil:
    """Calls what it was given when an ordinary unpickler reads it."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def test_a_dtype_takes_no_state_and_no_array_holds_objects():
    """The state by which a numpy dtype becomes one of objects, and bytes of the file their addresses."""
    for dtype in ("O", "f8,O", "S8", "<U2", "M8[s]", "c16"):
        with pytest.raises(ValueError, match="numbers|dtype"):
            array_of(read(pickle.dumps(np.zeros(2, np.dtype(dtype)), 2)))
    plain = pickle.dumps(np.arange(2.0), 2)
    start = plain.index(b"(K\x03X\x01\x00\x00\x00<")         # the dtype's state: version 3, "<", ...
    end = plain.index(b"b", start)
    state = pickle.dumps((3, "|", None, None, None, -1, -1, 63), 2)[2:-1]       # 63: flags of objects
    hostile = plain[:start] + state + plain[end:]
    np.testing.assert_array_equal(array_of(read(hostile)), np.arange(2.0))


def test_shapes_that_the_data_do_not_fill_are_refused():
    whole = pickle.dumps(np.zeros((3, 2), "<f8"), 2)
    for change in ((b"K\x03K\x02\x86", b"K\x04K\x02\x86"), (b"K\x03K\x02\x86", b"J\xff\xff\xff\xffK\x02\x86")):
        assert change[0] in whole
        with pytest.raises(ValueError, match="bytes|sizes"):
            array_of(read(whole.replace(*change)))


@pytest.mark.parametrize("data, rule", [
    (b"", "ends before"), (b"N", "ends before"), (b"(N.", "marks"), (b"NN.", "2 values"), (b".", "0 values"),
    (b"Pother\n.", "opcode"), (b"\x82\x01.", "opcode"), (b"\x97.", "opcode"), (b"h\x00.", "broken pickle"),
    (b"X\xff\xff\xff\xffa.", "ends before"), (b"T\xff\xff\xff\xffa.", "ends before"), (b"0.", "broken pickle"),
    (b"}(]Nu.", "key"), (b"}(Va\nNVb\nu.", "argument"), (b"Nb.", "broken pickle|state"),
    (b"I" + b"9" * 9999 + b"\n.", "digits"),
    (b"Vevil\nVloads\n\x93.", "not run"), (b"cos\nsystem\n(Vtrue\ntR.", "os.system.*not run")])
def test_broken_pickles_are_one_line(data, rule):
    with pytest.raises(ValueError, match=rule) as error:
        read(data)
    assert "\n" not in str(error.value)


def test_work_is_bounded():
    for data in (b"(" * 10**6 + b".", b"N0" * 10**6 + b".", b"](" + b"Ne(" * 10**6, b")" + b"\x85" * 10**6 + b"."):
        begun = time.monotonic()
        with pytest.raises(ValueError, match=f"more than {MAX_OPCODES} opcodes"):
            read(data)
        assert time.monotonic() - begun < SECONDS


def mutants(whole: bytes, count: int, seed: int):
    """Cut, flipped, doubled and overwritten copies; half of the faults stand where the opcodes are dense."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(min(len(data), 900)))
            way = rng.integers(4)
            if way == 0:
                data[at] = int(rng.integers(256))
            elif way == 1:
                del data[at:at + int(rng.integers(1, 9))]
            elif way == 2:
                data[at:at] = data[at:at + int(rng.integers(1, 40))]
            else:
                data[at:at + 1] = bytes(rng.choice(list(b"cRb(t}us\x85\x86\x93\x81hjq."), 2).tolist())
            if not data:
                break
        yield bytes(data)


def check_mutants(tmp_path, count: int) -> None:
    small = make()
    small = small._replace(mean=small.mean[:40], identity=small.identity[:, :40], expression=small.expression[:, :40],
                           triangles=small.triangles[:20] % 40)
    refused = 0
    for protocol in (0, 2, 5):
        whole = write_flame(tmp_path / "m.pkl", small, protocol).read_bytes()
        for data in mutants(whole, count // 3, protocol):
            begun = time.monotonic()
            try:
                found = read(data)
                for value in found.values() if isinstance(found, dict) else [found]:
                    kept = getattr(value, "state", None)
                    array_of(kept.get("x") if isinstance(kept, dict) else value)
            except ValueError as error:
                assert "\n" not in str(error)
                refused += 1
            assert time.monotonic() - begun < SECONDS
    assert refused > count // 2


def test_ten_thousand_mutants_are_refused_or_read(tmp_path):
    """Seconds in all: neither another exception, nor a signal, nor a hang."""
    check_mutants(tmp_path, 10_000)
