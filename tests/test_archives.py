"""Dataset/io/archives and Network/config/archive.py: what containers promise is refused before it is unpacked."""
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import scipy.io

from Dataset.io.archives.hdf5 import check_hdf5
from Dataset.io.archives.mat import check_mat
from Dataset.io.archives.zips import check_zip, read_entry
from Network.config.archive import check_archive
from tests.bench import hostile_files as made

SIZE = 1 << 20


def opened(data: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(data))


@pytest.mark.parametrize("data, rule", [
    (made.zipped({"a": bytes(2 * SIZE)}), "unpacks to 2097152 bytes, at most 1048576"),
    (made.zipped({"../a": b"x"}), "outside its folder, '../a'"), (made.zipped({"/a": b"x"}), "outside its folder"),
    (made.zipped({"a/../../b": b"x"}), "outside its folder"), (made.zipped({"c:a": b"x"}), "outside its folder"),
    (made.lying_zip("a", 900_000), "entry of .* bytes that promises 900000, 'a'"),
    (made.lying_zip("a", 2**32 - 2), "unpacks to 4294967294 bytes"),
    (made.zipped({str(i): b"" for i in range(10_001)}), "10001 entries")])
def test_zip_directories_are_checked_before_anything_is_unpacked(data, rule):
    with pytest.raises(ValueError, match=rule):
        check_zip(opened(data), SIZE)


def test_links_and_names_that_come_twice(tmp_path):
    link, data = zipfile.ZipInfo("link"), io.BytesIO()
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="encrypted or a link, 'link'"):
        check_zip(opened(data.getvalue()), SIZE)
    with zipfile.ZipFile(data, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(ValueError, match="two entries of one name"):
        check_zip(opened(data.getvalue()), SIZE)


def test_a_sound_archive_passes_and_is_read():
    archive = opened(made.zipped({"a/b": b"123", "zeros": bytes(SIZE // 2)}))      # 1000 : 1
    check_zip(archive, SIZE)
    assert read_entry(archive, "a/b", 3) == b"123"
    with pytest.raises(ValueError, match="a/b has 3 bytes, at most 2"):
        read_entry(archive, "a/b", 2)
    with pytest.raises(ValueError, match="has no c"):
        read_entry(archive, "c", 2)


def hdf5(path, make):
    with h5py.File(path, "w") as file:
        make(file)
    return path


@pytest.mark.parametrize("make, rule", [
    (lambda f: f.create_dataset("a", (10**13,), "f8"), "promises 80000000000000 bytes, the file has"),
    (lambda f: f.create_dataset("a", (10**13,), "f8", chunks=(10**6,), compression="gzip"), "/a promises 8000"),
    (lambda f: f.create_dataset("a", data=np.zeros(SIZE), compression="gzip"), "unpacks to 8388608 bytes, at most"),
    (lambda f: f.__setitem__("a", h5py.SoftLink("/b")), "a is a link"),
    (lambda f: f.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")), "a is a link"),
    (lambda f: f.create_dataset("a", (8,), "f8", external=[("/etc/passwd", 0, 64)]), "/a lies in another file")])
def test_hdf5_files_that_promise_more_than_they_have(tmp_path, make, rule):
    path = hdf5(tmp_path / "a.h5", make)
    with pytest.raises(ValueError, match=f"^{path}: no HDF5 file that can be read .*{rule}"):
        check_hdf5(path, SIZE)


def test_sound_hdf5_passes_with_loops_and_links_passed_over(tmp_path):
    def make(file):
        file["g/a"] = np.arange(100.0)
        file.create_dataset("g/packed", data=np.zeros(10_000), compression="gzip", chunks=(10_000,))
        file.create_dataset("empty", (0, 4))
        file["g/again"] = file["/"]
        file["g/same"] = file["g/a"]
        file.attrs["names"] = [b"one", b"two"]
    path = hdf5(tmp_path / "a.h5", make)
    check_hdf5(path, SIZE)
    check_hdf5(io.BytesIO(path.read_bytes()), SIZE, "a")
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/g")
    check_hdf5(path, SIZE, links=True)
    (tmp_path / "none.h5").write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="none.h5: no HDF5 file that can be read"):
        check_hdf5(tmp_path / "none.h5", SIZE)


def test_compressed_matlab_variables_are_counted(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.zeros(SIZE // 8)}, do_compression=True)
    assert path.stat().st_size < 3000
    check_mat(path, SIZE + 1000)
    with pytest.raises(ValueError, match="unpacks to more than 1000000 bytes"):
        check_mat(path, 10**6)
    scipy.io.savemat(path, {"a": np.zeros(9)})
    check_mat(path, 1000)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="promises .* bytes, .* follow"):
        check_mat(path, SIZE)
    path.write_bytes(b"no MATLAB")
    check_mat(path, SIZE)       # SciPy's to refuse


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """A tiny `.keras` file's entries."""
    path = tmp_path_factory.mktemp("keras") / "a.keras"
    images = keras.Input((2, 8, 8, 3))
    keras.Model(images, keras.layers.Dense(12, activation="relu")(keras.layers.Flatten()(images))).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("change, rule", [
    ({"../evil": b"x"}, "outside its folder"), ({"assets/a.txt": b"x"}, "must hold config.json, metadata.json and"),
    ({"config.json": b"[" * 10**6}, "nested 64 deep"), ({"config.json": bytes(5 << 20)}, "at most 4194304 are"),
    ({"config.json": b"{}"}, "."), ({"config.json": b"\xff"}, "utf-8"),
    ({"model.weights.h5": b"no"}, "no HDF5 file"),
    (("Dense", "Lambda"), "names keras.layers.Lambda, which is not read"),
    (("Dense", "TFSMLayer"), "names keras.layers.TFSMLayer"), (("keras.layers", "os"), "names os."),
    (('"units": 12', '"units": 99999999'), "at most 268435456 parameters"),
    (('"units": 12', '"units": 90000'), "describes 34650000 parameters, its weights have")])
def test_a_bare_keras_file_is_checked_before_it_is_built(entries, tmp_path, change, rule):
    """Sizes, names, classes, and the weights that its config describes."""
    if isinstance(change, tuple):
        text = entries["config.json"].decode()
        assert change[0] in text
        change = {"config.json": text.replace(*change).encode()}
    (tmp_path / "a.keras").write_bytes(made.zipped({**entries, **change}))
    with pytest.raises(ValueError, match=rule) as error:
        check_archive(tmp_path / "a.keras", alone=True)
    assert "\n" not in str(error.value)


def test_a_sound_keras_file_passes(entries, tmp_path):
    (tmp_path / "a.keras").write_bytes(made.zipped(entries))
    check_archive(tmp_path / "a.keras", alone=True)
    assert json.loads(entries["config.json"])["class_name"] == "Functional"
