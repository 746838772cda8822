"""demo.py beyond the neutral face: a depth map's cloud and surfaces, the photo's expression, views, no face."""
import json
import logging

import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

import demo
from Dataset.face_model.model import load_face_model
from Dataset.fitting.depth_fit import fit_depth
from Dataset.fitting.surface_reconstruction import is_closed
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import to_unit_sphere, umeyama
from Dataset.io.landmark_files import read_landmarks
from Dataset.io.mesh_io import read_mesh
from Dataset.representations.depth import decode, encode_depth
from Dataset.representations.points import decode as decode_points, encode as encode_points, grid_landmarks, grid_of
from Dataset.representations.volume import encode as volume_encode, load_volume, solid
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext
from Evaluation.views.registry import VIEWS, make_viewer
from Evaluation.web.serve import ServeConfig
from Network import mobile3model
from Network.commands.demo_options import parse
from Network.commands.results import in_millimetres, refuse_overwriting, write_result
from Network.inference.base import Face
from Network.inference.registry import predictor_of
from Network.inference.texture import Texture
from tests.test_fitted import crop, fake
from tests.test_streaming import TINY_THESIS, _loaded

SIZE = 128


class Made:
    """Two images of a subject, files of them, and what true networks would say of them."""

    def __init__(self, folder):
        options = RenderOptions(subjects=1, images=2, size=SIZE, seed=31, yaw=20, pitch=8, roll=8, detect=0, clutter=0,
                                glasses=0, buffers=("uv", "mask", "visible_mask", "depth"))
        found = render_subject(0, options, RenderContext(load_face_model(), threads=1))
        self.images, self.seen, self.camera = found["images"].copy(), found["visible_mask"], found["camera"]
        self.identity, self.angles, self.keypoints = found["identity"], found["pose"][:, :3], found["image_points"]
        self.depth = np.where(found["visible_mask"], found["depth"], np.nan)
        self.answers = {"uvnet": np.concatenate([
            np.nan_to_num(found["uv"].astype(np.float32)),
            np.stack([found["mask"], found["visible_mask"]], -1).astype(np.float32)], -1),
            "pix2pix": np.stack([encode_depth(d, m, c[0]) for d, m, c in zip(found["depth"], self.seen, self.camera)])}
        self.paths, self.fits = [], {}
        for number, image in enumerate(self.images):
            image[0, 0], image[-1, -1], image[-1, 0] = number, 255, 0       # `fake` knows the photo by these
            self.paths.append(str(folder / f"photo{number}.png"))
            cv2.imwrite(self.paths[-1], image)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """run(network, words...) -> the output's path without its ending; the photos are cut as they are. A depth map is
    fitted once for all tests."""
    def fit(depth, camera, model):
        key = depth.tobytes()
        if key not in made.fits:
            made.fits[key] = fit_depth(depth, camera, model)
        return made.fits[key]

    def call(network, *words, ending=".ply", preview=False):
        monkeypatch.setattr("Network.inference.registry.load",
                            lambda path, *_: fake(made.answers[network], network))
        monkeypatch.setattr("Network.inference.pix2pix.fit_depth", fit)
        if not preview:
            monkeypatch.setattr("Evaluation.views.demo_output.write_preview", lambda *_: None)
        words = [*map(str, words), "-o", str(tmp_path / f"face{ending}"), "--box", f"0,0,{SIZE},{SIZE}"]
        demo.reconstruct(parse("", ServeConfig, VIEWS, words))
        return tmp_path / "face"
    return call


def test_the_cloud_is_the_depth_map_in_the_photos_colours(made, run):
    """A depth as encoded is right but for one similarity (docs/conventions.md)."""
    cloud = read_mesh(run("pix2pix", made.paths[0], "--surface", "points").with_suffix(".ply"))
    true = look_at_face(SIZE, made.camera[0, 3], made.camera[0, 0])._replace(centre=tuple(made.camera[0, 1:3]))
    truth = decode(made.depth[0], true, made.images[0])
    assert len(cloud.vertices) == len(truth.vertices) == made.seen[0].sum()
    moved = umeyama(cloud.vertices, truth.vertices).apply(cloud.vertices)
    assert np.linalg.norm(moved - truth.vertices, axis=1).max() < 0.02 * np.ptp(truth.vertices[:, 1])
    np.testing.assert_array_equal(cloud.colours, truth.colours)
    assert 0.8 < np.ptp(cloud.vertices[:, 1]) / np.ptp(truth.vertices[:, 1]) < 1.25         # mm
    assert np.abs(cloud.vertices.mean(0)).max() < 1e-3


def test_a_surface_as_glb_with_its_preview(made, run):
    path = run("pix2pix", made.paths[0], "--surface", "poisson", ending=".glb", preview=True).with_suffix(".glb")
    assert path.read_bytes()[:4] == b"glTF" and cv2.imread(str(path.with_suffix(".png"))).std() > 20


@pytest.mark.parametrize("ending", [".ply", ".obj"])
def test_the_surface_runs_through_the_cloud(ending, made, run):
    cloud = read_mesh(run("pix2pix", made.paths[0], "--surface", "points").with_suffix(".ply"))
    mesh = read_mesh(run("pix2pix", made.paths[0], "--surface", "poisson", ending=ending).with_suffix(ending))
    assert len(mesh.triangles) > 5000 and not is_closed(mesh.triangles)
    # aligned by size and middle
    scale = np.ptp(cloud.vertices[:, 1]) / np.ptp(mesh.vertices[:, 1])
    assert 0.9 < scale < 1.1
    tree = cKDTree(cloud.vertices)
    _, near = tree.query(mesh.vertices)
    for _ in range(20):         # ICP: the two clouds are dense
        fit = umeyama(mesh.vertices, cloud.vertices[near])
        distance, near = tree.query(fit.apply(mesh.vertices))
    assert np.median(distance) < 1 and np.quantile(distance, 0.9) < 3       # mm
    close = distance < 1
    off = np.abs(mesh.colours[close].astype(int) - cloud.colours[near[close]])
    assert np.median(off) < 12


@pytest.mark.parametrize("ending", [".ply", ".obj"])
def test_the_depth_map_in_triangles(ending, made, run):
    """The cloud's own points and colours, from pixel to pixel; what is drawn by its edges is the wireframe."""
    cloud = read_mesh(run("pix2pix", made.paths[0], "--surface", "points", ending=ending).with_suffix(ending))
    mesh = read_mesh(run("pix2pix", made.paths[0], "--surface", "mesh", ending=ending).with_suffix(ending))
    np.testing.assert_array_equal(mesh.vertices, cloud.vertices)
    np.testing.assert_array_equal(mesh.colours, cloud.colours)
    assert made.seen[0].sum() < len(mesh.triangles) < 2 * made.seen[0].sum() and not is_closed(mesh.triangles)
    sides = np.linalg.norm(np.diff(mesh.vertices[mesh.triangles][:, [0, 1, 2, 0]], axis=1), axis=-1)
    assert np.median(sides) < 3                             # neighbours, mm


def test_a_volume_and_its_packed_bits(made, run, monkeypatch):
    """The surface in triangles, and NAME_volume.npz: which voxels of the crop the face fills."""
    model, size = load_face_model(), 48
    closed = solid(model.shape(made.identity), model)
    filled = volume_encode(closed, look_at_face(size, 800.0, 4.2 * size), 52)
    made.answers["vrn"] = np.where(filled, 8.0, -8.0).astype(np.float32)[None]
    path = run("vrn", made.paths[0], "--surface", "volume")
    mesh = read_mesh(path.with_suffix(".ply"))
    assert len(mesh.triangles) > 1000 and mesh.colours is not None
    packed = path.with_name("face_volume.npz")
    np.testing.assert_array_equal(load_volume(packed), filled)
    assert packed.stat().st_size < 8000             # of 16,128 packed and 119,808 as they are


def test_watertight(made, run):
    mesh = read_mesh(run("pix2pix", made.paths[0], "--surface", "watertight").with_suffix(".ply"))
    assert is_closed(mesh.triangles) and mesh.colours is not None


def test_the_fit_is_the_default_and_has_landmarks(made, run):
    face = run("pix2pix", made.paths[0])
    assert len(read_mesh(face.with_suffix(".ply")).vertices) == 128 ** 2
    assert face.with_name("face_landmarks.pts").is_file()
    assert not face.with_name("face_pose.json").exists()        # nobody says where the head is


def test_how_the_head_is_turned(made, run):
    """Of the last photo, from the fit; beside each face with --each."""
    path = run("uvnet", *made.paths)
    keys = ["program", "photo", "yaw", "pitch", "roll", "scale", "x", "y", "typicality", "score"]
    assert list(json.loads(path.with_name("face_pose.json").read_text())) == keys
    run("uvnet", *made.paths, "--each")
    for number in range(2):
        found = json.loads(path.with_name(f"face_{number + 1:02d}_pose.json").read_text())
        assert found["photo"] == made.paths[number] and found["score"] is None      # --box: no detector
        np.testing.assert_allclose([found[name] for name in ("yaw", "pitch", "roll")], made.angles[number], atol=4)
        focal, x, y, distance = made.camera[number]
        # the camera looks at the origin from so far away; a weak perspective's scale is that of the face, before it
        assert found["scale"] == pytest.approx(focal / distance, rel=0.1)
        assert np.hypot(found["x"] - x, found["y"] - y) < 0.08 * SIZE


def test_how_the_head_is_turned_where_only_keypoints_are_known(made, tmp_path):
    """No millimetres, so neither a scale nor the head's origin."""
    model, size = load_face_model(), 128
    vertices = model.shape(made.identity)
    keypoints = made.keypoints[1] / size
    face = Face(grid_of(vertices, model), crop(1), keypoints=keypoints.astype(np.float32), texture=Texture(size ** 2))
    assert tmp_path / "face_pose.json" in write_result(tmp_path / "face.ply", face).paths
    found = json.loads((tmp_path / "face_pose.json").read_text())
    np.testing.assert_allclose([found[name] for name in ("yaw", "pitch", "roll")], made.angles[1], atol=5)
    assert found["scale"] is found["x"] is found["y"] is found["typicality"] is found["score"] is None
    assert found["photo"] == "photo 1"
    write_result(tmp_path / "face.ply", face._replace(typicality=0.71049))
    assert json.loads((tmp_path / "face_pose.json").read_text())["typicality"] == 0.71
    with pytest.raises(ValueError, match="would overwrite one of the images, face_pose.json"):
        refuse_overwriting(tmp_path / "face.ply", [tmp_path / "face_pose.json"])


def test_a_surface_shows_one_photo(made, run, caplog):
    with caplog.at_level(logging.WARNING):
        last = read_mesh(run("pix2pix", *made.paths, "--surface", "points").with_suffix(".ply"))
    assert "--surface shows the last of 2 photos; --each writes one for every photo" in caplog.text
    caplog.clear()
    each = run("pix2pix", *made.paths, "--surface", "points", "--each")
    assert not caplog.text
    first, second = (read_mesh(each.with_name(f"face_0{n}.ply")) for n in (1, 2))
    np.testing.assert_array_equal(second.vertices, last.vertices)
    assert len(first.vertices) == made.seen[0].sum() != made.seen[1].sum() == len(last.vertices)


def test_the_last_photos_expression(made, run):
    """In place of the neutral face; the landmarks beside it are those of that face."""
    model, fitter = load_face_model(), predictor_of(fake(made.answers["uvnet"]))
    wanted = fitter.fit([fitter.read(answer) for answer in made.answers["uvnet"]])
    faces = {}
    for words in ((), ("--expression",)):           # of several photos the neutral face
        path = run("uvnet", *made.paths, *words)
        faces[words] = read_mesh(path.with_suffix(".ply")).vertices
        marks = read_landmarks(path.with_name("face_landmarks.pts"))
        np.testing.assert_allclose(marks, grid_landmarks(faces[words], model), atol=2e-2)
    neutral, shown = faces.values()
    # the demo goes on from the first photo's fit: not to the digit
    assert np.linalg.norm(neutral - in_millimetres(wanted.points), axis=1).max() < 2
    assert np.linalg.norm(shown - in_millimetres(wanted.photo_points), axis=1).max() < 2
    assert np.linalg.norm(shown - neutral, axis=1).max() > 4


def test_one_photo_has_its_own_expression(made, run):
    """Unless --neutral asks for the subject's face; of several, and with --each, that is the default."""
    def vertices(*words):
        path = run("pix2pix", *words)
        return read_mesh(path.with_name("face_01.ply") if "--each" in words else path.with_suffix(".ply")).vertices
    shown, neutral = vertices(made.paths[0]), vertices(made.paths[0], "--neutral")
    assert np.linalg.norm(shown - neutral, axis=1).max() > 2
    np.testing.assert_array_equal(vertices(made.paths[0], "--expression"), shown)
    np.testing.assert_array_equal(vertices(made.paths[0], "--each"), neutral)
    np.testing.assert_array_equal(vertices(*made.paths, "--neutral"), vertices(*made.paths))


def test_a_face_is_as_large_as_the_mean_face(made, run, tmp_path):
    """In mm, said in the header; metres in a .glb."""
    path = run("uvnet", made.paths[0], "--neutral").with_suffix(".ply")
    assert b"comment unit: mm (scale of the mean face)\n" in path.read_bytes()[:200]
    model = load_face_model()
    mean = decode_points(encode_points(np.asarray(model.mean, float), model=model))
    np.testing.assert_allclose(in_millimetres(to_unit_sphere(mean)[0]), mean - mean.mean(0), atol=1e-9)
    high = np.ptp(read_mesh(path).vertices[:, 1])
    assert high == pytest.approx(np.ptp(mean[:, 1]), rel=0.1)
    scene = trimesh.load(run("uvnet", made.paths[0], "--neutral", ending=".glb").with_suffix(".glb"))
    assert scene.extents[1] == pytest.approx(high / 1000, rel=1e-3)


def test_what_a_network_does_not_say(made, run, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="--surface poisson is not of uvnet .fake., which has fit"):
        run("uvnet", made.paths[0], "--surface", "poisson")
    neutral = _loaded(mobile3model, TINY_THESIS)
    monkeypatch.setattr("Network.inference.registry.load", lambda path, *_: neutral)
    words = parse("", ServeConfig, VIEWS, [made.paths[0], "--expression", "--box", "0,0,128,128",
                                           "-o", str(tmp_path / "a.ply")])
    with pytest.raises(ValueError, match="--expression: run makes neutral faces only"):
        demo.reconstruct(words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words, message", [
    (["--surface", "points", "-o", "a.glb"], "--surface points is a cloud, which a .glb does not hold"),
    (["--surface", "poisson", "--expression"], "--expression is for --surface fit"),
    (["--surface", "poisson", "--neutral"], "--neutral is for --surface fit"),
    (["--neutral", "-o", "a.mp4"], "--neutral is for a face, not for an --output of .mp4"),
    (["--surface", "voxels"], "invalid choice: 'voxels'"), (["--view", "voxels"], "invalid choice: 'voxels'")])
def test_words_that_do_not_go_together(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse("", ServeConfig, VIEWS, ["a.jpg", *words])
    assert stop.value.code == 2 and message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse("", ServeConfig, VIEWS, ["--serve", "--expression"])
    assert "--expression, --neutral and --surface are for photos named here" in capsys.readouterr().err


@pytest.mark.parametrize("view, shape", [("depth", (512, 512)), ("wireframe", (512, 512)), ("strip", (320, 1600))])
def test_views_of_a_depth_map(view, shape, made, run):
    path = run("pix2pix", made.paths[0], "--view", view)
    image = cv2.imread(str(path.with_name(f"face_{view}.png")))
    assert image.shape == (*shape, 3) and image.std() > 20
    if view == "strip":         # the first part is the photo
        small = cv2.resize(image[:, :320], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - made.images[0]).mean() < 5
    with pytest.raises(ValueError, match=f"--view {view} is not of uvnet .fake., which has features, texture"):
        make_viewer(view, predictor_of(fake(made.answers["uvnet"])))


@pytest.mark.parametrize("network, nothing", [("uvnet", np.zeros((SIZE, SIZE, 4), np.float32)),
                                              ("pix2pix", np.full((SIZE, SIZE, 1), -1, np.float32))])
def test_a_landscape_has_no_face(network, nothing, tmp_path, monkeypatch, capsys, caplog):
    """Sky, hills, a field; --box in place of the detector: the words "no face", exit code 2, no file."""
    rows = np.linspace(0, 1, 240)[:, None]
    hills = rows > 0.5 + 0.08 * np.sin(np.linspace(0, 9, 320))
    sky, field = ([235, 190, 150] + rows[..., None] * [20, 40, 60]), ([60, 140, 90] - rows[..., None] * [20, 50, 40])
    cv2.imwrite(str(tmp_path / "field.png"), np.where(hills[..., None], field, sky).astype(np.uint8))
    monkeypatch.setattr("Network.inference.registry.load",
                        lambda path, *_: fake(nothing[None], network))
    for words in ([], ["--surface", "poisson"] if network == "pix2pix" else ["--expression"]):
        given = [str(tmp_path / "field.png"), "--box", "40,20,160,160", "-o", str(tmp_path / "face.ply"), *words]
        with caplog.at_level(logging.WARNING):
            assert demo.main(given) == 2
        assert "demo.py: no face in any of the photos\n" == capsys.readouterr().err
        assert "field.png: no face" in caplog.text
        assert {file.name for file in tmp_path.iterdir()} == {"field.png"}
