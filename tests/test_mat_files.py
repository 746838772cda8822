"""Dataset/io/mat_files.py: MATLAB 7.3, an HDF5 file, is read as the versions before it."""
import h5py
import numpy as np
import pytest
import scipy.io

from Dataset.io.mat_files import mat_shapes, read_mat

ARRAYS = {"pt3d_68": np.arange(204.0).reshape(3, 68), "Pose_Para": np.arange(7.0)[None],
          "tl": np.arange(6).reshape(2, 3)}


@pytest.fixture(params=["5", "7.3"])
def file(request, tmp_path):
    path = tmp_path / "x.mat"
    if request.param == "5":
        scipy.io.savemat(path, ARRAYS)
    else:
        with h5py.File(path, "w", userblock_size=512) as out:       # as MATLAB: its text first, columns as rows
            for name, array in ARRAYS.items():
                out[name] = array.T
            out.create_group("#refs#")
            out["text"] = np.array([72, 105], np.uint16)[:, None]
    return path


def test_both_versions_give_the_same(file):
    shapes = mat_shapes(file, 10**6)
    assert {name: shapes[name] for name in ARRAYS} == {name: array.shape for name, array in ARRAYS.items()}
    found = read_mat(file, ("pt3d_68", "tl", "none"))
    assert list(found) == ["pt3d_68", "tl"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_nothing_outside_the_file_is_opened(tmp_path):
    with h5py.File(tmp_path / "other.mat", "w") as other:
        other["a"] = np.zeros(3)
    with h5py.File(tmp_path / "x.mat", "w") as out:
        out["a"] = h5py.ExternalLink("other.mat", "a")
        out["b"] = h5py.SoftLink("/c")
        out["c"] = np.zeros((2, 3))
    assert mat_shapes(tmp_path / "x.mat", 48) == {"c": (3, 2)} and list(read_mat(tmp_path / "x.mat", "abc")) == ["c"]
    with h5py.File(tmp_path / "x.mat", "a") as out:
        layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
        layout[:] = h5py.VirtualSource("other.mat", "a", shape=(3,))
        out.create_virtual_dataset("v", layout)
    assert list(read_mat(tmp_path / "x.mat", "vc")) == ["c"]
    with pytest.raises(ValueError, match="v lies in another file"):
        mat_shapes(tmp_path / "x.mat", 10**6)


@pytest.mark.parametrize("promised", [10**13, 10**7])
def test_more_than_is_allowed_is_not_unpacked(promised, tmp_path):
    """Of 7.3, too: numbers that the file has not, and numbers that it has, packed."""
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as out:
        out.create_dataset("tl", (promised,), "u1", chunks=(10**6,), compression="gzip")
        if promised < 10**8:
            out["tl"][:] = 0
    with pytest.raises(ValueError, match=r"promises \d+ bytes|unpacks to \d+ bytes, at most 1000000 are allowed"):
        mat_shapes(tmp_path / "x.mat", 10**6)


def test_landmarks_of_version_73(tmp_path):
    from Dataset.io.images import write_image
    from Dataset.sources.aflw2000 import read_photo
    write_image(tmp_path / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as out:
        for name in ("pt3d_68", "Pose_Para"):
            out[name] = ARRAYS[name].T
    np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg").landmarks[:, 0], np.arange(68.0) - 0.5)
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:900])
    with pytest.raises(ValueError, match="a.mat: no MATLAB file that can be read"):
        read_photo(tmp_path / "a.jpg")
