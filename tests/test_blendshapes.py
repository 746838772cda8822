"""ARKit's 52 blendshapes: of the face model, as morph targets of a .glb, as a video's table."""
import csv
import json

import numpy as np
import pytest

import demo
from Dataset.face_model.blendshapes import MOUTH_CLOSE, NAMES, TONGUE_OUT, blendshapes, has_blendshapes, weights_of
from Dataset.face_model.model import load_face_model
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import umeyama
from Dataset.io.marks import is_marked
from Dataset.io.mesh_files import Morphs
from Dataset.io.mesh_io import read_mesh, write_mesh
from Dataset.representations.points import sized_grid
from Dataset.synthesis.video import VideoOptions, make_video
from Network.commands.blendshape_table import COLUMNS
from Network.commands.results import face_morphs, in_millimetres
from Network.inference.base import Face
from tests.test_mesh_files import glb

MODEL = load_face_model()
SHAPES = blendshapes(MODEL)


def moved(weights: np.ndarray) -> np.ndarray:
    """Displacements (V, 3) mm of 52 weights."""
    return np.tensordot(weights, SHAPES.displacements, 1)


def rms(displacements: np.ndarray) -> float:
    return float(np.sqrt(np.square(displacements).sum(-1).mean()))


def test_names_are_arkits():
    assert len(NAMES) == len(set(NAMES)) == 52 and list(NAMES) == sorted(NAMES)
    assert {"browDownLeft", "eyeLookOutRight", "jawOpen", "mouthShrugUpper", "noseSneerRight"} <= set(NAMES)
    assert not SHAPES.displacements[NAMES.index(TONGUE_OUT)].any()
    without = [name for name, own in zip(NAMES, SHAPES.own) if own < 0]
    assert without == [MOUTH_CLOSE, TONGUE_OUT]
    for name, own in zip(NAMES, SHAPES.own):
        assert own < 0 or MODEL.expression_names[own] == name


def test_units_of_arkit_keep_their_weights():
    """Faces made of these units alone: the weights are found again, whatever they are in [0, 1]."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        expression = np.zeros(84)
        own = SHAPES.own[SHAPES.own >= 0]
        expression[own] = rng.random(len(own)) * (rng.random(len(own)) < 0.3)
        np.testing.assert_allclose(weights_of(SHAPES, expression)[SHAPES.own >= 0], expression[own], atol=1e-6)


def test_other_units_are_shared_out():
    """The 34 units of MakeHuman: the 52 weights come nearer to the face than the units' own weights alone."""
    rng, gained = np.random.default_rng(1), []
    for _ in range(40):
        expression = MODEL.sample_expression(rng)
        truth = np.tensordot(expression, MODEL.expression, 1)
        weights = weights_of(SHAPES, expression)
        assert weights.min() >= 0 and weights.max() <= 1
        own = np.where(SHAPES.own >= 0, expression[SHAPES.own], 0)
        if rms(truth - moved(own)) > 0.05:
            gained.append(rms(truth - moved(weights)) / rms(truth - moved(own)))
    assert len(gained) > 10 and np.mean(gained) < 0.9 and max(gained) < 1.02


def test_mouth_close_closes_an_open_jaw():
    """Lips over a jaw that is down: as far apart as of the neutral face; the chin stays down."""
    both, jaw = np.zeros(52), np.zeros(52)
    jaw[NAMES.index("jawOpen")] = both[NAMES.index("jawOpen")] = both[NAMES.index(MOUTH_CLOSE)] = 1
    neutral, opened, closed = (MODEL.landmarks(MODEL.mean + moved(w)) for w in (0 * jaw, jaw, both))
    height = [np.linalg.norm(found[57] - found[51]) for found in (neutral, opened, closed)]       # of the lips
    assert height[1] > 2 * height[0] and height[2] < 1.1 * height[0]
    assert opened[8, 1] < neutral[8, 1] - 20 and closed[8, 1] < neutral[8, 1] - 20


def test_a_model_with_other_names_has_none():
    from dataclasses import replace
    other = replace(MODEL, expression_names=tuple(f"e{i}" for i in range(84)))
    assert has_blendshapes(MODEL) and not has_blendshapes(other)
    with pytest.raises(ValueError, match="blendshapes are of the built-in face model"):
        blendshapes(other)


def accessor(tree: dict, binary: bytes, number: int) -> np.ndarray:
    """(count, 3) of an accessor, sparse or not."""
    found = tree["accessors"][number]
    values = np.zeros((found["count"], 3), np.float32)

    def view(part: dict, dtype: str, count: int) -> np.ndarray:
        at = tree["bufferViews"][part["bufferView"]]
        return np.frombuffer(binary, dtype, count, at.get("byteOffset", 0) + part.get("byteOffset", 0))
    if "bufferView" in found:
        values = view(found, "<f4", 3 * found["count"]).reshape(-1, 3).copy()
    if "sparse" in found:
        sparse = found["sparse"]
        rows = view(sparse["indices"], "<u4", sparse["count"])
        assert (np.diff(rows.astype(int)) > 0).all()        # the format asks for it
        values[rows] = view(sparse["values"], "<f4", 3 * sparse["count"]).reshape(-1, 3)
    np.testing.assert_allclose(values.min(0), found["min"], atol=1e-6)
    np.testing.assert_allclose(values.max(0), found["max"], atol=1e-6)
    return values


def morphed(path) -> tuple[dict, np.ndarray, np.ndarray]:
    """A .glb -> its mesh entry, the vertices at weight 0 and those at its own weights, metres."""
    tree, binary = glb(path.read_bytes())
    mesh, = tree["meshes"]
    primitive, = mesh["primitives"]
    base = accessor(tree, binary, primitive["attributes"]["POSITION"])
    targets = [accessor(tree, binary, target["POSITION"]) for target in primitive["targets"]]
    assert tree["buffers"][0]["byteLength"] <= len(binary) < tree["buffers"][0]["byteLength"] + 4
    return mesh, base, base + np.tensordot(mesh["weights"], targets, 1)


def test_morph_targets_of_a_glb(tmp_path):
    rng = np.random.default_rng(0)
    mesh = Mesh(rng.normal(size=(5, 3)) * 100, np.array([[0, 1, 2], [2, 3, 4]]))
    displacements = rng.normal(size=(3, 5, 3))
    displacements[0, :3] = displacements[2] = 0
    morphs = Morphs(("a", "b", "c"), displacements, np.array([0.5, 0, 1]))
    write_mesh(tmp_path / "a.glb", mesh, millimetres="measured", morphs=morphs)
    entry, base, shown = morphed(tmp_path / "a.glb")
    assert entry["extras"]["targetNames"] == ["a", "b", "c"] and entry["weights"] == [0.5, 0, 1]
    np.testing.assert_allclose(shown, mesh.vertices / 1000, atol=1e-7)
    np.testing.assert_allclose(base, (mesh.vertices - 0.5 * displacements[0] - displacements[2]) / 1000, atol=1e-7)
    write_mesh(tmp_path / "a.ply", mesh, morphs=morphs)         # which has none: the mesh as it is
    np.testing.assert_allclose(read_mesh(tmp_path / "a.ply").vertices, mesh.vertices, rtol=1e-6)
    with pytest.raises(ValueError, match=r"b.glb: morph targets must be \(3, 5, 3\) .*, got \(3, 4, 3\)"):
        write_mesh(tmp_path / "b.glb", mesh, morphs=morphs._replace(displacements=displacements[:, :4]))
    assert not (tmp_path / "b.glb").exists()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    for name, words in (("a.glb", []), ("a.ply", []), ("n.glb", ["--neutral"])):
        assert demo.main(["--example", "-o", str(folder / name), *words]) == 0
    return folder


def test_the_example_as_glb(example):
    """With its weights it is the face of the .ply, which smiles; at weight 0 the subject's neutral face."""
    entry, base, shown = morphed(example / "a.glb")
    np.testing.assert_allclose(1000 * shown, read_mesh(example / "a.ply").vertices, atol=1e-2)
    weights = dict(zip(entry["extras"]["targetNames"], entry["weights"]))
    assert min(weights["mouthSmileLeft"], weights["mouthSmileRight"]) > 0.15
    neutral, at_zero, at_weights = morphed(example / "n.glb")
    assert not any(neutral["weights"]) and (at_zero == at_weights).all()
    # each is centred and scaled by itself; what is left at weight 0 is what the 52 units do not say
    rest, smile = (rms(umeyama(found, at_zero).apply(found) - at_zero) for found in (base, shown))
    assert rest < 0.5 * smile, (rest, smile)
    assert (example / "a.glb").stat().st_size < 7e6


def test_an_open_mouth_closes_at_weight_0():
    """An open jaw makes the face 15 % longer, and the mesh, which has the mean face's size, that much smaller: so are
    its morph targets. At weight 0 it is the neutral face, at the mesh's scale."""
    expression = np.zeros(84)
    expression[MODEL.expression_names.index("jawOpen")] = 1
    neutral, photo = (sized_grid(MODEL.shape(expression=weights), MODEL) for weights in (None, expression))
    face = Face(neutral.points, None, photo.points, radius=neutral.radius, photo_radius=photo.radius,
                expression=expression)
    morphs, mesh = face_morphs(face, True), Mesh(in_millimetres(photo.points))
    assert photo.radius > 1.1 * neutral.radius and morphs.weights[NAMES.index("jawOpen")] == pytest.approx(1)
    base, wanted = morphs.base(mesh).vertices, in_millimetres(neutral.points) * neutral.radius / photo.radius
    np.testing.assert_allclose(base - base.mean(0), wanted - wanted.mean(0), atol=0.01)
    assert not face_morphs(face).weights.any()
    np.testing.assert_allclose(face_morphs(face).displacements * neutral.radius,
                               morphs.displacements * photo.radius, rtol=1e-6, atol=1e-6)


def test_weights_of_a_photo_beside_its_pose(example):
    found = json.loads((example / "a_pose.json").read_text())["blendshapes"]
    assert list(found) == list(NAMES) and min(found["mouthSmileLeft"], found["mouthSmileRight"]) > 0.15
    assert all(0 <= weight <= 1 for weight in found.values())


def test_a_videos_table(tmp_path, capsys):
    video, out, table = tmp_path / "in.avi", tmp_path / "out.avi", tmp_path / "weights.csv"
    make_video(video, VideoOptions(frames=4, width=320, height=240, seed=5))
    words = [str(video), "-o", str(out), "--blendshapes", str(table)]
    assert demo.main(words) == 0 and f"wrote {table}" in capsys.readouterr().out
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(COLUMNS) == 57 and len(rows) == 4 and is_marked(table)
    with np.load(out.with_suffix(".npz")) as stored:
        np.testing.assert_allclose([float(row["time_s"]) for row in rows], stored["time"], atol=1e-4)
        np.testing.assert_allclose([float(row["yaw_deg"]) for row in rows], stored["pose"][:, 0], atol=1e-3)
        for row, found in zip(rows, stored["coefficients"]):
            np.testing.assert_allclose([float(row[name]) for name in NAMES], weights_of(SHAPES, found[200:]), atol=1e-4)
    assert demo.main(words) == 0        # its own files are replaced
    table.write_text("mine")
    assert demo.main(words) == 2 and "not this program's" in capsys.readouterr().err
    assert table.read_text() == "mine"


@pytest.mark.parametrize("words, message", [
    (["x.mp4", "-o", "o.mp4", "--blendshapes", "w.txt"], "w.txt: must end in .csv"),
    (["x.mp4", "-o", "o.mp4", "--model", "uvnet-small", "--blendshapes", "w.csv"], "predicts no expressions"),
    (["x.mp4", "-o", "o.glb", "--blendshapes", "w.csv"], "an --output of .mp4 or .avi; compact's .glb holds")])
def test_what_is_refused(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.mp4").write_bytes(b"x")
    try:
        code = demo.main(words)
    except SystemExit as end:
        code = end.code
    assert code == 2 and message in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["x.mp4"]
