"""Dataset/io/marks.py: every format still reads as before, and only a marked file is replaced without being asked."""
import json

import cv2
import numpy as np
import pytest

import demo
from Dataset.geometry.mesh import Mesh
from Dataset.io.atomic import all_or_none, write_text
from Dataset.io.images import read_image, write_image
from Dataset.io.landmark_files import read_landmarks, write_landmarks
from Dataset.io.marks import is_marked, mark
from Dataset.io.mesh_io import read_mesh, write_mesh

TEXTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
MESH = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.5]]), np.array([[0, 1, 2]]),
            np.array([[0, 0], [1, 0], [0, 1.0]]))


def twice(path, write):
    """Write a file without and with its mark -> the two paths."""
    plain = path.with_name(f"plain{path.suffix}")
    write(plain)
    with all_or_none(mark):
        write(path)
    if path.suffix != ".glb":       # which names its program anyhow
        assert not is_marked(plain)
    assert is_marked(path)
    before = path.read_bytes()
    mark(path, path)
    assert path.read_bytes() == before      # once
    return plain, path


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_images(ending, tmp_path):
    plain, marked = twice(tmp_path / f"a{ending}", lambda path: write_image(path, TEXTURE))
    np.testing.assert_array_equal(read_image(plain), read_image(marked))
    np.testing.assert_array_equal(cv2.imread(str(plain)), cv2.imread(str(marked)))


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb"])
def test_meshes(ending, tmp_path):
    texture = None if ending == ".ply" else TEXTURE
    plain, marked = twice(tmp_path / f"a{ending}", lambda path: write_mesh(path, MESH, texture=texture,
                                                                           millimetres="made"))
    if ending != ".glb":
        one, other = read_mesh(plain), read_mesh(marked)
        np.testing.assert_array_equal(one.vertices, other.vertices)
        np.testing.assert_array_equal(one.triangles, other.triangles)
    if ending == ".obj":
        assert all(is_marked(tmp_path / name) for name in ("a.mtl", "a_texture.png"))
        import trimesh
        assert trimesh.load(marked).visual.material.image.size == (16, 16)


def test_numbers_and_text(tmp_path):
    landmarks = np.random.default_rng(1).normal(size=(68, 3)).round(6)
    for ending in (".pts", ".json"):
        for path in twice(tmp_path / f"a{ending}", lambda path: write_landmarks(path, landmarks)):
            np.testing.assert_allclose(read_landmarks(path), landmarks, atol=1e-6)
    _, marked = twice(tmp_path / "pose.json", lambda path: write_text(path, json.dumps({"yaw": 1.5}, indent=1)))
    assert json.loads(marked.read_text()) == {"program": "faces3d", "yaw": 1.5}
    from Dataset.io.atomic import write_atomic
    _, marked = twice(tmp_path / "a.npz", lambda path: write_atomic(path, lambda one: np.savez_compressed(one, x=[3])))
    with np.load(marked) as arrays:
        assert arrays["x"].tolist() == [3]


@pytest.mark.parametrize("ending, codec", [(".mp4", "mp4v"), (".avi", "MJPG")])
def test_videos(ending, codec, tmp_path):
    from Dataset.io.atomic import write_atomic

    def write(path):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
        for level in (0, 128, 255):
            writer.write(np.full((48, 64, 3), level, np.uint8))
        writer.release()
    _, marked = twice(tmp_path / f"a{ending}", lambda path: write_atomic(path, write))
    reader = cv2.VideoCapture(str(marked))
    levels = [reader.read()[1].mean() for _ in range(3)]
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and np.allclose(levels, [0, 128, 255], atol=8)
    assert not reader.read()[0]


@pytest.mark.parametrize("name", ["me.ply", "me.png", "me_landmarks.pts", "me_pose.json", "me_volume.npz"])
def test_a_file_of_the_users_stays(name, tmp_path, capsys):
    out, mine = tmp_path / "me.ply", b"mine, from /home/me/faces3d/photos"         # the name alone is no mark
    (tmp_path / name).write_bytes(mine)
    assert demo.main(["--example", "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{name}: is there, and not this program's; name another --output, or add --overwrite" in error
    assert (tmp_path / name).read_bytes() == mine and len(list(tmp_path.iterdir())) == 1


def test_its_own_files_are_replaced_and_others_when_asked(tmp_path):
    out = tmp_path / "me.ply"
    out.write_bytes(b"mine")
    words = ["--example", "-o", str(out)]
    assert demo.main([*words, "--overwrite"]) == 0
    assert len(read_mesh(out).vertices) == 16384
    written = sorted(tmp_path.iterdir())
    assert len(written) == 4 and all(is_marked(path) for path in written)
    assert demo.main(words) == 0 and sorted(tmp_path.iterdir()) == written
