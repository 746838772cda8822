"""Network/commands/benchmarks.py: files in the layouts of NoW and REALY, read back as their documentation says."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh

from Dataset.face_model.model import load_face_model
from Dataset.geometry.closest import ClosestPoints
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import Similarity, rotation_from_euler
from Dataset.io.images import write_image
from Dataset.io.inputs import example_image
from Dataset.io.mesh_files import obj_bytes
from Dataset.representations.points import encode, grid_landmarks
from Network.commands import benchmarks
from Network.commands.benchmarks import TEMPLATE, barycentric, carried_keypoints, write_now, write_realy
from tests.commands import command

MODEL = load_face_model()
CENTRE = encode(np.asarray(MODEL.mean, float)).reshape(-1, 3).mean(0)
MEAN = encode(np.asarray(MODEL.mean, float)).reshape(-1, 3) - CENTRE        # as every face is written: about its middle
NAMES = ["FaMoS_1/multiview_neutral/IMG_0049.jpg", "FaMoS_1/selfie/IMG_0092.jpg", "FaMoS_2/selfie/IMG_0007.png"]


def photos(folder: Path, names) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"never read: the face is made")
    return folder


def face_of(path: Path) -> np.ndarray | None:
    """A face that its photo's name decides; none in selfies of the first subject."""
    rng = np.random.default_rng(list(path.name.encode()))
    return None if path.name == "IMG_0092.jpg" else encode(MODEL.shape(rng.standard_normal(20))).reshape(-1, 3)


def test_now_finds_a_mesh_and_seven_landmarks_for_every_image(tmp_path):
    """As the tool looks them up: SUBJECT/CHALLENGE, the name without its last four letters, .obj, .txt split at spaces.
    """
    images = photos(tmp_path / "images", NAMES)
    (tmp_path / "list.txt").write_text("\n".join(NAMES) + "\n")
    wrote = write_now(images, tmp_path / "out", face_of, tmp_path / "list.txt")
    assert (wrote.photos, wrote.faceless) == (3, [NAMES[1]])
    for line in (tmp_path / "list.txt").read_text().splitlines():
        subject, challenge, name = line.split("/")[-3:]
        stem = tmp_path / "out" / subject / challenge / name[:-4]
        rows = np.array([row.split(" ") for row in Path(f"{stem}.txt").read_text().splitlines()], np.float32)
        mesh = trimesh.load(f"{stem}.obj", process=False)
        own = face_of(images / line)
        expected = MEAN if own is None else own
        np.testing.assert_allclose(mesh.vertices, expected, atol=1e-3)          # mm, the head's size
        assert rows.shape == (7, 3) and ClosestPoints(mesh.vertices, mesh.faces)(rows).distance.max() < 0.3
        right, left, mouth = rows[[0, 1]], rows[[3, 2]], rows[[5, 6]]
        assert (right[:, 0] < 0).all() and (left[:, 0] > 0).all() and mouth[0, 0] < 0 < mouth[1, 0]
        assert (np.abs(rows[[0, 3], 0]) > np.abs(rows[[1, 2], 0])).all()         # outer corners
        assert mouth[:, 1].max() < rows[4, 1] < right[:, 1].min() and abs(rows[4, 0]) < 3


def test_now_without_a_list_takes_every_image(tmp_path):
    images = photos(tmp_path / "images", [*NAMES, "FaMoS_1/selfie/notes.txt", "stray.jpg"])
    assert write_now(images, tmp_path / "out", face_of).photos == 3
    assert len(list((tmp_path / "out").glob("*/*/*.obj"))) == 3


@pytest.mark.parametrize("line, rule", [
    ("../x/a.jpg", "line 1 must be SUBJECT/CHALLENGE/NAME.jpg, received '../x/a.jpg'"), ("a.jpg", "line 1 must be"),
    ("/a/b/c.jpg", "line 1 must be"), ("a/b/c.jpeg", "line 1 must be"), ("a/b/none.jpg", "none.jpg: no such photo"),
    ("", "holds no photos named SUBJECT/CHALLENGE/NAME.jpg")])
def test_bad_lists_write_nothing(tmp_path, line, rule):
    images = photos(tmp_path / "images", NAMES)
    (tmp_path / "list.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=re.escape(rule)):
        write_now(images, tmp_path / "out", face_of, tmp_path / "list.txt")
    assert not (tmp_path / "out").exists()


def template(folder: Path, seed: int = 0) -> tuple[Path, np.ndarray]:
    """A template as REALY has it, of our own mean head in another frame and size -> its .obj, and where on the head its
    85 keypoints lie: our 68 landmarks and 17 points of the face."""
    rng, move = np.random.default_rng(seed), Similarity(0.1, rotation_from_euler(3, 2, 1), np.array([1.0, 2, 3]))
    mean, triangles = np.asarray(MODEL.mean, float), MODEL.triangles
    middle = mean[triangles].mean(1)
    front = np.flatnonzero((np.linalg.norm(middle - (0, -20, 20), axis=1) < 60) & (middle[:, 2] > 0)
                           & np.isin(np.arange(len(triangles)), MODEL.region("skin")))
    rows = []
    for corners, weights in zip(MODEL.landmark_vertices, MODEL.landmark_weights):
        triangle = int(np.flatnonzero((np.sort(triangles) == np.sort(corners)).all(1))[0])
        order = [int(np.flatnonzero(corners == vertex)[0]) for vertex in triangles[triangle]]
        rows.append([triangle, *weights[order][:2].tolist()])
    rows += [[int(triangle), 0.2, 0.3] for triangle in rng.choice(front, 17)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "HIFI3D.obj").write_bytes(obj_bytes(Mesh(move.apply(mean), triangles)))
    (folder / "HIFI3D.txt").write_text(json.dumps(rows))
    weights = np.array([[a, b, 1 - a - b] for _, a, b in rows])
    truth = np.einsum("kc,kcd->kd", weights, mean[triangles[[row[0] for row in rows]]])
    return folder / "HIFI3D.obj", truth - CENTRE


def test_keypoints_of_a_template_come_over(tmp_path):
    path, truth = template(tmp_path)
    found = carried_keypoints(path, MEAN)
    np.testing.assert_allclose(found[:68], grid_landmarks(MEAN), atol=1e-9)
    assert np.linalg.norm(found[68:] - truth[68:], axis=1).max() < 1.5          # mm; the jaw's ends lie on the boundary
    with pytest.raises(ValueError, match="HIFI3D.txt: cannot be read"):
        path.with_suffix(".txt").unlink()
        carried_keypoints(path, MEAN)
    for rows, rule in (([[0, 0, 0]] * 84, r"85 rows of triangle and two weights \(received \(84, 3\)"),
                       ([[10**6, 0, 0]] * 85, "has triangles 0 to"), ([[0.5, 0, 0]] * 85, "has triangles 0 to"),
                       ([["a", 0, 0]] * 85, "85 rows"), ([[0, 0]] * 85, "85 rows"), ([[0, 0, 1e999]] * 85, "85 rows")):
        path.with_suffix(".txt").write_text(json.dumps(rows))
        with pytest.raises(ValueError, match=f"HIFI3D.txt: must be .*{rule}"):
            carried_keypoints(path, MEAN)


def test_realy_reads_meshes_and_keypoints(tmp_path):
    """Its rule: keypoint = a v0 + b v1 + (1 - a - b) v2 of a triangle of the template, for every mesh."""
    path, _ = template(tmp_path / "data")
    images = photos(tmp_path / "images", ["1.jpg", "2_3.png", "IMG_0092.txt"])
    wrote = write_realy(images, tmp_path / "out", face_of, path)
    assert (wrote.photos, wrote.faceless, wrote.keypoints) == (2, [], True)
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        f"{TEMPLATE}.obj", f"{TEMPLATE}.txt", "prediction/1.obj", "prediction/2_3.obj"]
    rows = np.array(json.loads((tmp_path / "out" / f"{TEMPLATE}.txt").read_text()))
    assert rows.shape == (85, 3)
    weights = np.column_stack([rows[:, 1:], 1 - rows[:, 1:].sum(1)])
    topology = None
    for name, expected in ((f"{TEMPLATE}.obj", MEAN), ("prediction/1.obj", face_of(Path("1.jpg"))),
                           ("prediction/2_3.obj", face_of(Path("2_3.png")))):
        text = (tmp_path / "out" / name).read_text()
        assert "vn" not in text and "/" not in text                             # which its reader takes for a texture
        vertices = np.array([line.split()[1:] for line in text.splitlines() if line.startswith("v ")], float)
        faces = np.array([line.split()[1:] for line in text.splitlines() if line.startswith("f ")], int) - 1
        topology = faces if topology is None else topology
        np.testing.assert_array_equal(faces, topology)
        np.testing.assert_allclose(vertices, expected, atol=1e-6)
        keypoints = np.einsum("kc,kcd->kd", weights, vertices[faces[rows[:, 0].astype(int)]])
        assert np.linalg.norm(keypoints[:68] - grid_landmarks(expected), axis=1).max() < 0.5


def test_barycentric_rows_give_the_points_back():
    rng = np.random.default_rng(0)
    near = MEAN[rng.choice(len(MEAN), 30)] + rng.normal(0, 0.01, (30, 3))
    assert all(isinstance(row[0], int) and -1e-6 <= min(row[1:]) and sum(row[1:]) <= 1 + 1e-6
               for row in barycentric(MEAN, near))


def test_realy_needs_numbers(tmp_path):
    images = photos(tmp_path / "images", ["1.jpg", "me.jpg"])
    with pytest.raises(ValueError, match="me.jpg: a photo of REALY must be named as 12.jpg or 12_3.jpg"):
        write_realy(images, tmp_path / "out", face_of)
    with pytest.raises(ValueError, match="holds no photos named 12.jpg"):
        write_realy(tmp_path / "none", tmp_path / "out", face_of)
    with pytest.raises(ValueError, match="16384 vertices, this network gives 1024"):
        write_realy(photos(tmp_path / "one", ["1.jpg"]), tmp_path / "out", lambda path: MEAN[:1024])
    assert not (tmp_path / "out").exists()


def test_the_commands(tmp_path):
    images = tmp_path / "images"
    write_image(images / "1.jpg", np.ascontiguousarray(example_image().image[:240, 110:350]))
    done = command(benchmarks.main, "realy", images, tmp_path / "out")
    assert done.returncode == 0 and "1 meshes, 0 of them the mean face; no faces3d.txt: name REALY's" in done.stdout
    vertices = trimesh.load(tmp_path / "out" / "prediction" / "1.obj", process=False).vertices
    assert 1 < np.linalg.norm(vertices - MEAN, axis=1).mean() < 15              # another face than the mean, in mm
    photos(tmp_path / "now", NAMES)
    done = command(benchmarks.main, "now", tmp_path / "now", tmp_path / "mean", "--mean-face")
    assert done.returncode == 0 and "3 meshes, 3 of them the mean face\n" in done.stdout
    for words, rule in ((["now", images, tmp_path / "x", "--mean-face"], "holds no photos named SUBJECT/CHALLENGE"),
                        (["now", images, images], "OUT must be another folder"),
                        (["now", images, tmp_path / "x", "--mean-face", "--list", tmp_path / "no"], "must be a list")):
        done = command(benchmarks.main, *words)
        assert done.returncode == 2 and rule in done.stderr and not (tmp_path / "x").exists()
    assert command(benchmarks.main, "now", images, images, "--template", "a").returncode == 2
