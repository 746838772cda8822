"""Files of others that are no files, or that make a reader work or nest without end: one line, in bounded time."""
import os
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

import demo
import evaluate
import train
from Dataset.face_model.adopted import source_hash
from Dataset.face_model.readers.ict import read_ict
from Dataset.face_model.readers.plain_pickle import Call, Name, array_of, read_plain
from Dataset.io.archives.npz import read_npz
from Dataset.io.archives.regular import check_regular
from Dataset.io.command import run_command
from Dataset.io.images import image_size, read_image
from Dataset.io.inputs import read_inputs
from Dataset.io.json_files import read_json
from Dataset.io.landmark_files import read_landmarks
from Dataset.io.mat_files import mat_shapes, read_mat
from Dataset.io.mesh_io import read_mesh
from Dataset.io.mesh_readers.vrml import read_vrml
from Dataset.io.video_files import check_container, read_video, video_info, write_video
from Dataset.sources.bnd import read_bnd

SECONDS = 20            # after which a reader hangs


@pytest.fixture(autouse=True)
def limit():
    """A reader that hangs ends the test, not the run."""
    def late(*_: object) -> None:
        raise TimeoutError(f"no end after {SECONDS} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = {"a.json": read_json, "a.npz": read_npz, "a.jpg": read_image, "b.jpg": image_size, "a.bnd": read_bnd,
           "a.pts": read_landmarks, "a.ply": read_mesh, "a.obj": read_mesh, "a.wrl": read_mesh, "a.pkl": source_hash,
           "a.avi": video_info, "b.avi": lambda path: list(read_video(path)),
           "c.avi": lambda path: list(read_inputs([path], 2))}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_a_device_and_a_loop_are_no_files(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"device{name}").symlink_to("/dev/zero")
    (tmp_path / f"loop{name}").symlink_to(tmp_path / f"loop{name}")
    for path in (tmp_path / name, tmp_path / f"device{name}", tmp_path / f"loop{name}"):
        with pytest.raises(ValueError) as refused:
            READERS[name](path)
        assert path.name in str(refused.value) and "\n" not in str(refused.value)


def test_a_pipe_in_a_face_models_folder(tmp_path):
    for name in ("generic_neutral_mesh.obj", "identity000.obj"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: must be a file, is a named pipe"):
            read_ict(tmp_path)
        (tmp_path / name).unlink()
        (tmp_path / name).write_text("v 0 0 0\n")


def test_what_is_no_regular_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_regular(tmp_path / "missing")
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "pipe", "is a named pipe"),
                        (Path("/dev/zero"), "is a device or socket")):
        with pytest.raises(ValueError, match=f"{path}: must be a file, {words}"):
            check_regular(path)


# --- pickles ------------------------------------------------------------------------------------------------------
def anything(name: object) -> bool:
    return True


def test_a_pickle_that_doubles_is_not_written_out():
    """STACK_GLOBAL with a module that is a list of lists of lists ..., 2^60 elements as text."""
    data = b"]q\x00" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))
    with pytest.raises(ValueError, match="names a member by a list and a str, not by text"):
        read_plain(data + b"U\x01x\x93.", anything)


def test_a_pickle_of_nested_calls_ends():
    """bytes(bytes(bytes(...))), 60,000 deep, as an array's content."""
    deep: object = b"abcd"
    for _ in range(60_000):
        deep = Call(Name("builtins", "bytes"), (deep,))
    dtype = Call(Name("numpy", "dtype"), ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    array = Call(Name("numpy.core.multiarray", "_reconstruct"), (), (1, (1,), dtype, False, deep))
    with pytest.raises(ValueError, match="an array's data must be bytes, received builtins.bytes"):
        array_of(array)


@pytest.mark.parametrize("line", [b"'a'" + b"+-" * 100_000, b"'a'" + b".x" * 100_000, b"'a", b"a'", b"'", b"",
                                  b"'\\x'", b"1"])
def test_a_text_of_protocol_0_is_no_expression(line):
    with pytest.raises(ValueError):
        read_plain(b"S" + line + b"\n.", anything)


def test_a_text_of_protocol_0_is_read():
    for text in ("a b", "it's", 'say "x"', "new\nline", "\xe9\x00\\"):
        assert read_plain(b"S" + repr(text.encode("latin-1"))[1:].encode() + b"\n.", anything) == text


# --- MATLAB -------------------------------------------------------------------------------------------------------
def nested_cells(depth: int) -> bytes:
    """The element of a variable "shapeMU": a cell that holds a cell that holds ..., with a double's flags inside."""
    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
    name = element(1, b"")
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1))
    sizes = [0] * (depth + 1)
    for level in range(depth - 1, -1, -1):
        sizes[level] = sizes[level + 1] + len(head) + len(name) + (8 if level < depth - 1 else 0)
    parts = []
    for level in range(depth):
        own = head + (element(1, b"shapeMU") if level == 0 else name)
        parts.append(own if level == 0 else struct.pack("<II", 14, sizes[level]) + own)
    body = b"".join(parts)
    return struct.pack("<II", 14, len(body)) + body


def test_a_mat_file_of_nested_cells_is_refused_by_its_header(tmp_path):
    """SciPy's reader recurses in C: 100,000 cells end the process."""
    packed = zlib.compress(nested_cells(100_000))
    path = tmp_path / "nested.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
                     + struct.pack("<II", 15, len(packed)) + packed)
    assert "shapeMU" in mat_shapes(path, 1 << 30)
    with pytest.raises(ValueError, match="shapeMU must be an array of numbers, is a cell"):
        read_mat(path, ["shapeMU"])
    scipy.io.savemat(path, {"a": np.arange(3.0), "b": {"c": 1}, "d": "text"})
    assert read_mat(path, ["a"])["a"].tolist() == [[0, 1, 2]]           # beside variables of other classes
    for name, kind in (("b", "struct"), ("d", "char")):
        with pytest.raises(ValueError, match=f"{name} must be an array of numbers, is a {kind}"):
            read_mat(path, ["a", name])


# --- VRML, videos -------------------------------------------------------------------------------------------------
def test_many_face_sets_take_linear_time(tmp_path):
    one = "IndexedFaceSet { coord Coordinate { point [ 0 0 0, 1 0 0, 0 1 0 ] } coordIndex [ 0 1 2 -1 ] }\n"
    path = tmp_path / "sets.wrl"
    path.write_text("#VRML V2.0 utf8\n" + 20_000 * one)
    mesh = read_vrml(path)
    assert len(mesh.vertices) == 60_000 and (mesh.triangles == np.arange(60_000).reshape(-1, 3)).all()


def test_a_list_of_files_is_no_video(tmp_path, monkeypatch):
    """FFmpeg opens what an ffconcat file names, and takes a still image for a video."""
    monkeypatch.chdir(tmp_path)
    with write_video(tmp_path / "own.avi", 64, 48) as write:
        for level in range(3):
            write(np.full((48, 64, 3), level, np.uint8))
    check_container(tmp_path / "own.avi")
    for name, data in (("list.mp4", b"ffconcat version 1.0\nfile own.avi\n"), ("m3u.mp4", b"#EXTM3U\nown.avi\n"),
                       ("still.avi", b"\xff\xd8\xff\xe0" + bytes(100)), ("empty.mp4", b""),
                       ("riff.avi", b"RIFF1234WAVE")):
        (tmp_path / name).write_bytes(data)
        for read in (video_info, lambda path: list(read_video(path)), lambda path: list(read_inputs([path], 2))):
            with pytest.raises(ValueError, match=f"{name}: must be an MP4, MOV, AVI, MKV or WebM video"):
                read(tmp_path / name)


# --- commands -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("main, words", [(demo.main, ["--frames", "x"]), (evaluate.main, ["--none"]),
                                         (train.main, ["folder", "--preset", "uvnet", "--epochs", "many"])])
def test_a_wrong_flag_is_one_line(main, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "error: " in said
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "usage: " in capsys.readouterr().out


def test_numpys_warnings_are_not_in_the_way(capsys):
    def work() -> int:
        np.float64(1e308) * np.ones(1) * 10
        raise ValueError("a.ply: is none")
    assert run_command("name", work) == 2
    assert capsys.readouterr().err == "name: a.ply: is none\n"
