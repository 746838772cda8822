"""Dataset/synthesis/shards.py and workers.py: shards are whole or not there, the same from any number of workers."""
import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from Dataset import shards as shards_command
from Dataset.io.atomic import folder_lock
from Dataset.synthesis import shards
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import RenderOptions, layout, render_subject
from Dataset.synthesis.shards import finalise, make_part, make_shards, open_shards
from tests.forkserver import DEVNULL, Popen

TINY = RenderOptions(subjects=18, images=2, size=24, seed=3, detect=0.0, buffers=("mask",))
FLAGS = ["--subjects", "18", "--images", "2", "--size", "24", "--seed", "3", "--detect", "0", "--buffers", "mask"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "OUT"
    assert make_shards(out, TINY) == 2
    return out


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    return shutil.copytree(tiny, tmp_path / "OUT")


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_read_is_what_was_rendered(tiny):
    found = open_shards(tiny)
    assert (len(found), found.images, found.size, found.settings) == (18, 2, 24, TINY)
    assert found.names == tuple(layout(TINY)) and "uv" not in found.names
    for number in (0, 15, 16, 17):
        for name, value in render_subject(number, TINY, render_context()).items():
            assert found.gather(name, [number])[0].tobytes() == value.tobytes(), (number, name)
    assert [len(a) for a in found.arrays("pose")] == [16, 2]
    assert isinstance(found.arrays("images")[0], np.memmap) and not found.arrays("images")[0].flags.writeable


def test_gather_picks_subjects_and_images(tiny):
    found = open_shards(tiny)
    everything = np.concatenate(found.arrays("pose"))
    subjects, images = np.array([17, 0, 16, 0]), np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    np.testing.assert_array_equal(found.gather("pose", subjects, images), everything[subjects[:, None], images])
    np.testing.assert_array_equal(found.gather("pose", subjects, images[:, 0]), everything[subjects, images[:, 0]])
    assert found.gather("images", subjects, images).shape == (4, 2, 24, 24, 3)
    assert found.gather("images", [], np.zeros((0, 2), int)).shape == (0, 2, 24, 24, 3)
    again = pickle.loads(pickle.dumps(found))           # as into a worker process
    np.testing.assert_array_equal(again.gather("pose", subjects), everything[subjects])
    with pytest.raises(ValueError, match="holds images, .* received voxels"):
        found.gather("voxels", subjects)
    with pytest.raises(ValueError, match="subjects are 0 to 17, received 0 to 18"):
        found.gather("pose", [0, 18])
    with pytest.raises(ValueError, match="images are 0 to 1, received -1 to 0"):
        found.gather("pose", [0, 1], [0, -1])


def test_bytes_do_not_depend_on_workers(tiny, tmp_path):
    make_shards(tmp_path / "two", TINY, workers=2)
    assert digests(tmp_path / "two") == digests(tiny)


def test_few_files_are_open_at_a_time(tiny, monkeypatch):
    monkeypatch.setattr(shards, "_file_limit", lambda: 6)
    found, opened = open_shards(tiny), []
    real = np.memmap
    monkeypatch.setattr(np, "memmap", lambda file, *settings: opened.append(file) or real(file, *settings))
    for name in ("pose", "camera", "landmarks", "pose"):
        np.testing.assert_array_equal(found.gather(name, range(18)), np.concatenate(found.arrays(name)))
    assert len(opened) == 8 and found._map.cache_info().currsize == 3      # the first was closed and opened again


@pytest.mark.skipif(os.name == "nt", reason="no limits of this kind")
@pytest.mark.parametrize("limit, files", [(-1, 32768), (40, 128), (1024, 1024), (10**6, 32768)])
def test_the_limit_of_open_files(monkeypatch, limit, files):
    import resource
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert resource.RLIM_INFINITY == -1 and shards._file_limit() == files


@pytest.mark.parametrize("damage", ["truncate", "delete", "folder"])
def test_goes_on_after_damage_and_touches_nothing_else(tiny, copy, damage):
    file = copy / "shard_00001" / "images.npy"
    stamp = (copy / "shard_00000" / "images.npy").stat().st_mtime_ns
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-7])
    elif damage == "delete":
        file.unlink()
    else:
        shutil.rmtree(file.parent)
    (copy / ".work" / "shard_00001").mkdir(parents=True)
    (copy / ".work" / "shard_00001" / "images.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"shard_00001(/images.npy: (missing|no whole .npy file)| is missing)"):
        open_shards(copy)
    assert make_shards(copy, TINY) == 1
    assert digests(copy) == digests(tiny)
    assert (copy / "shard_00000" / "images.npy").stat().st_mtime_ns == stamp


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_goes_on_after_a_kill(tiny, tmp_path):
    out = tmp_path / "OUT"
    running = Popen("-m", "Dataset.shards", out, *FLAGS, stdout=DEVNULL, stderr=DEVNULL)
    deadline = time.monotonic() + 240
    while not (out / "shard_00000").is_dir():
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait(60) == -signal.SIGKILL and (out / "shard_00000").is_dir()
    if not (out / "shard_00001").is_dir():
        with pytest.raises(ValueError, match="OUT: unfinished; run Dataset.shards again with the same settings"):
            open_shards(out)
        part = open_shards(out, partial=True)
        np.testing.assert_array_equal(part.subjects, np.arange(16))
    assert make_shards(out, TINY) <= 1
    assert digests(out) == digests(tiny)


def test_bad_folders_get_one_clear_line(copy, tmp_path):
    with pytest.raises(ValueError, match="no: no such folder"):
        open_shards(tmp_path / "no")
    info = json.loads((copy / "shards.json").read_text())

    def write(**changes) -> Path:
        (copy / "shards.json").write_text(json.dumps({**info, **changes}))
        return copy

    with pytest.raises(ValueError, match="shards.json: version 2 is needed, received 7"):
        open_shards(write(version=7))
    with pytest.raises(ValueError, match="shards.json: made with another face model"):
        open_shards(write(model="0" * 64))
    with pytest.raises(ValueError, match="shards.json: made with a face model of other landmarks, grid or texture"):
        open_shards(write(annotations="0" * 64))
    before = {name: value for name, value in info.items() if name != "annotations"}     # sets from before it was kept
    (copy / "shards.json").write_text(json.dumps(before))
    assert len(open_shards(copy)) == 18
    with pytest.raises(ValueError, match="settings are none of this version .*unexpected keyword argument 'hats'"):
        open_shards(write(settings={**info["settings"], "hats": 1}))
    with pytest.raises(ValueError, match="settings are none of this version .*--size must be within"):
        open_shards(write(settings={**info["settings"], "size": 10**9}))
    for name, value, kind in (("subjects", 2.5, "a whole number"), ("images", True, "a whole number"),
                              ("yaw", "9", "a number"), ("texture", ["x"], "text"),
                              ("buffers", "uv", "a list of names"),
                              ("buffers", [[]], "a list of names"), ("seed", None, "a whole number")):
        with pytest.raises(ValueError, match=f"shards.json: its settings .*{name} must be {kind}, received"):
            open_shards(write(settings={**info["settings"], name: value}))
    with pytest.raises(ValueError, match="shards.json: its settings are none of this version"):
        open_shards(write(settings=[1]))
    (copy / "shards.json").write_text("{")
    with pytest.raises(ValueError, match="shards.json: is no JSON"):
        open_shards(copy)
    write(complete=False)
    with pytest.raises(ValueError, match="unfinished"):
        open_shards(copy)
    write()
    np.save(copy / "shard_00000" / "pose.npy", np.zeros((16, 2, 5), np.float32))
    with pytest.raises(ValueError, match=r"pose.npy: must be \(16, 2, 6\) float32, received \(16, 2, 5\) float32"):
        open_shards(copy)
    np.save(copy / "shard_00000" / "pose.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="pose.npy: no whole .npy file"):
        open_shards(copy)
    write(complete=False)
    for number in range(2):
        shutil.rmtree(copy / f"shard_{number:05d}")
    with pytest.raises(ValueError, match="holds no whole shard yet"):
        open_shards(copy, partial=True)


def test_the_command_refuses_with_one_line_and_code_2(tiny, tmp_path, capsys):
    before = digests(tiny)
    for argv, message in (([str(tiny), *FLAGS, "--margin", "1.3"], "was begun with margin 1.15, now it is 1.3"),
                          ([str(tmp_path / "new"), "--size", "9999"], "--size must be within 16 to 512, got 9999"),
                          ([str(tmp_path / "new"), *FLAGS, "--workers", "0"], "--workers must be within 1 to 256"),
                          ([str(tmp_path), *FLAGS], "OUT must be new, empty, or begun by this program")):
        (tmp_path / "something").touch()
        assert shards_command.main(argv) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error
    assert digests(tiny) == before and not (tmp_path / "new").exists()
    assert shards_command.main([str(tiny), *FLAGS]) == 0 and "18 subjects, 36 images" in capsys.readouterr().out


def test_two_processes_do_not_write_into_one_folder(copy, capsys):
    shutil.rmtree(copy / "shard_00001")
    before = digests(copy)
    with folder_lock(copy):
        assert shards_command.main([str(copy), *FLAGS]) == 2
    assert "another process is writing here" in capsys.readouterr().err and digests(copy) == before
    assert shards_command.main([str(copy), *FLAGS]) == 0
    assert len(open_shards(copy)) == 18


FEW = RenderOptions(subjects=34, images=1, size=16, seed=3, detect=0.0, texture="grey")      # three shards
WORDS = ["--subjects", "34", "--images", "1", "--size", "16", "--seed", "3", "--detect", "0", "--texture", "grey"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """Digests of the set that one machine makes."""
    out = tmp_path_factory.mktemp("whole") / "OUT"
    assert make_shards(out, FEW) == 3
    return digests(out)


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_bytes_do_not_depend_on_the_split(parts, whole, tmp_path, capsys):
    out = tmp_path / "OUT"
    for part in [*range(parts, 0, -1), 1]:      # in any order, one of them twice
        assert shards_command.main([str(out), *WORDS, "--part", f"{part}/{parts}"]) == 0
    with pytest.raises(ValueError, match="unfinished"):
        open_shards(out)
    assert shards_command.main([str(out), "--finalise"]) == 0 and "OUT: 34 subjects" in capsys.readouterr().out
    assert digests(out) == whole and len(open_shards(out)) == 34
    manifest = json.loads((out / "manifest.json").read_text())
    assert [shard["subjects"] for shard in manifest["shards"]] == [[0, 15], [16, 31], [32, 33]]
    assert manifest["subjects"] == 34 and len({shard["sha256"] for shard in manifest["shards"]}) == 3


def test_a_part_beside_another_and_after_a_kill(whole, tmp_path):
    """Another machine's private folder stays; a shard that it has finished meanwhile is kept."""
    out = tmp_path / "OUT"
    theirs = out / ".work-theirs" / "shard_00001"
    theirs.mkdir(parents=True)
    assert make_part(out, FEW, range(0, 2)) == 2 and theirs.is_dir()
    stamp = (out / "shard_00001" / "pose.npy").stat().st_mtime_ns
    (out / "shard_00000" / "pose.npy").write_bytes(b"cut")          # by a killed machine, say
    assert make_part(out, FEW, range(0, 3)) == 2
    assert (out / "shard_00001" / "pose.npy").stat().st_mtime_ns == stamp
    shutil.rmtree(out / ".work-theirs")
    assert finalise(out) == 34 and digests(out) == whole


def test_two_machines_finish_the_same_shard(tmp_path, monkeypatch):
    out, made = tmp_path / "OUT", shards._make_shard

    def slow(folder, job):
        report = made(folder, job)
        monkeypatch.setattr(shards, "_make_shard", made)
        assert make_part(out, FEW, range(2, 3)) == 1        # the other one is first
        return report
    monkeypatch.setattr(shards, "_make_shard", slow)
    assert make_part(out, FEW, range(2, 3)) == 1
    assert [path.name for path in out.iterdir() if path.name.startswith("shard_")] == ["shard_00002"]
    assert not [path for path in out.iterdir() if path.name.startswith(".work")]


def test_finalise_names_what_is_missing_or_of_another_version(tmp_path, monkeypatch, capsys):
    out = tmp_path / "OUT"
    make_part(out, FEW, range(1, 3))
    with pytest.raises(ValueError, match="OUT: 1 of 3 shards are missing or damaged, the first is shard_00000; make"):
        finalise(out)
    make_part(out, FEW, range(0, 1))
    mark = out / "shard_00002" / ".done.json"
    mark.write_text(mark.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(ValueError, match="shard_00002 was made with other settings or by another version; delete it"):
        finalise(out)
    assert not (out / "manifest.json").exists()
    with pytest.raises(ValueError, match="nowhere: not a folder of shards"):
        finalise(tmp_path / "nowhere")
    for words, rule in ((["--part", "0/4"], "part must be K/N with K from 1 to N"),
                        (["--part", "5"], "--part must be K/N, as 17/200, got '5'"),
                        (["--shards", "3:9"], "--shards must be within 0:3, got 3:9"),
                        (["--shards", "x"], "--shards must be A:B, as 0:40, got 'x'"),
                        (["--part", "1/2", "--shards", "0:1"], "--part and --shards say the same")):
        assert shards_command.main([str(tmp_path / "new"), *WORDS, *words]) == 2
        error = capsys.readouterr().err
        assert rule in error and error.count("\n") == 1 and not (tmp_path / "new").exists(), error


def test_a_set_grows(tmp_path):
    small = dataclasses.replace(FEW, subjects=16)
    out = tmp_path / "OUT"
    assert make_shards(out, small) == 1
    kept = {name: value for name, value in digests(out).items() if name.startswith("shard_")}
    assert make_shards(out, FEW) == 2 and len(open_shards(out)) == 34
    assert kept.items() <= digests(out).items()
    with pytest.raises(ValueError, match="was begun with subjects 34, now it is 16"):
        make_shards(out, small)
    assert make_shards(tmp_path / "odd", dataclasses.replace(FEW, subjects=2)) == 1
    with pytest.raises(ValueError, match="was begun with subjects 2, now it is 16; name another folder"):
        make_shards(tmp_path / "odd", small)        # its last shard is not full


def test_a_set_from_before_there_were_reports_gets_its_manifest(whole, tmp_path):
    out = tmp_path / "OUT"
    make_shards(out, FEW)
    for mark in out.glob("shard_*/.done.json"):
        mark.write_text(json.dumps({**json.loads(mark.read_text()), "report": None}) + "\n")
    (out / "manifest.json").unlink()
    assert make_shards(out, FEW) == 0
    assert digests(out)["manifest.json"] == whole["manifest.json"]
