"""Dataset/synthesis/subject_folders.py, with scene, framing and sidecar: what is written is what was meant, again and
again."""
import dataclasses
import hashlib
import shutil
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from Dataset.detection.cascades import detect_faces
from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import Camera
from Dataset.io.atomic import folder_lock
from Dataset.io.mesh_io import read_points
from Dataset.io.work_folder import MARK
from Dataset.rendering.raycast import Scene
from Dataset.representations import points
from Dataset.sources.subjects import dataset_info, list_subjects, read_split, subjects_of
from Dataset.synthesis import subject_folders as synthetic
from Dataset.synthesis.framing import PREDICTED, expected_box, frame_face
from Dataset.synthesis.scene import Range, RenderContext, SceneSubject, head_materials, sample_view, view_camera
from Dataset.synthesis.sidecar import annotation_hash, model_hash
from Dataset.synthesis.skin import sample_appearance

TINY = synthetic.Options(subjects=2, images=3, seed=5, size=64, points=256)


@lru_cache(maxsize=1)
def context() -> RenderContext:
    return RenderContext(load_face_model(), threads=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "OUT"
    synthetic.make_dataset(out, TINY)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}


def test_folders_are_in_the_one_format(tiny):
    subjects = list_subjects(tiny)
    assert [s.name for s in subjects] == ["S000", "S001"]
    assert [p.name for p in subjects[0].images] == ["000.jpg", "001.jpg", "002.jpg"]
    assert cv2.imread(str(subjects[0].images[0])).shape == (64, 64, 3)
    info = dataset_info(tiny)
    assert (info.source, info.points, info.order, info.grid, info.image_size) == ("synthetic", 256, "grid", 16, 64)
    assert cv2.imread(str(tiny / "sheet.jpg")).shape == (400, 1000, 3)
    assert not list(tiny.glob(".work*")) and not list(tiny.rglob(".tmp-*"))
    assert len(subjects_of(tiny)["training"]) == len(subjects_of(tiny)["test"]) == 1


def test_bytes_do_not_depend_on_workers(tiny, tmp_path):
    synthetic.make_dataset(tmp_path / "two", TINY, workers=2)
    assert digests(tmp_path / "two") == digests(tiny)


def test_goes_on_after_a_loss_and_touches_nothing_else(tiny, tmp_path):
    out = shutil.copytree(tiny, tmp_path / "OUT")
    before = digests(out)
    stamp = (out / "S000" / "000.jpg").stat().st_mtime_ns
    (out / "S001" / "001.jpg").unlink()
    (out / ".work" / "S001").mkdir(parents=True)
    (out / ".work" / "S001" / "000.jpg").write_bytes(b"half")
    synthetic.make_dataset(out, TINY)
    assert digests(out) == before
    assert (out / "S000" / "000.jpg").stat().st_mtime_ns == stamp


def test_two_processes_do_not_write_into_one_folder(tiny, tmp_path, capsys):
    out = shutil.copytree(tiny, tmp_path / "OUT")
    (out / "S001" / "001.jpg").unlink()
    before = digests(out)
    with folder_lock(out):
        assert synthetic.main([str(out), "--subjects", "2", "--images", "3", "--seed", "5", "--size", "64",
                               "--points", "256"]) == 2
    assert "another process is writing here" in capsys.readouterr().err and digests(out) == before


def test_an_image_depends_on_its_own_number_only(tiny, tmp_path):
    synthetic.make_dataset(tmp_path / "more", dataclasses.replace(TINY, subjects=1, images=4))
    few, more = digests(tiny / "S000"), digests(tmp_path / "more" / "S000")
    one = few.keys() - {"sidecar.npz", MARK}         # these describe all images of the subject
    assert len(one) == 4 and {k: more[k] for k in one} == {k: few[k] for k in one}


def test_ground_truth_is_the_neutral_face_in_grid_order(tiny):
    sidecar = synthetic.load_sidecar(tiny / "S001")
    cloud = read_points(tiny / "S001" / "S001.ply")
    expected = points.encode(load_face_model().shape(sidecar.identity), 16).reshape(-1, 3)
    np.testing.assert_allclose(cloud, expected, atol=1e-4)
    assert np.abs(cloud - points.encode(load_face_model().mean, 16).reshape(-1, 3)).max() > 1      # not the mean's


def test_random_order_lies_on_the_same_surface():
    model = load_face_model()
    options = synthetic.Options(order="random", points=500)
    identity = model.sample_identity(np.random.default_rng(0))
    cloud = synthetic.ground_truth(model, identity, options, np.random.default_rng(1))
    again = synthetic.ground_truth(model, identity, options, np.random.default_rng(2))
    surface = points.encode(model.shape(identity)).reshape(-1, 3)
    distances = np.linalg.norm(cloud[:, None] - surface[None, ::7], axis=-1).min(1)
    assert cloud.shape == (500, 3) and distances.max() < 8 and np.abs(cloud - again).max() > 10


def test_landmarks_project_where_the_sidecar_says(tiny):
    sidecar, model = synthetic.load_sidecar(tiny / "S000"), load_face_model()
    for index in range(3):
        camera, vertices = synthetic.frame_mesh(sidecar, index, model)
        x, y, depth = camera.project(model.landmarks(vertices))
        np.testing.assert_allclose(np.stack([x, y], -1), sidecar.landmarks[index], atol=1e-3)
        assert (camera.width, camera.height) == (64, 64) and (depth > 250).all()
        inside = (x > -5) & (x < 69) & (y > -5) & (y < 69)
        assert inside[17:].mean() > 0.9          # brows, nose, eyes and mouth are in the crop


def test_images_can_be_rendered_again(tiny):
    for name in ("S000", "S001"):
        sidecar = synthetic.load_sidecar(tiny / name)
        for index in (0, 2):
            image = synthetic.rerender(sidecar, index, context())
            ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, TINY.quality])
            assert ok and data.tobytes() == (tiny / name / f"{index:03d}.jpg").read_bytes()


def test_photographed_skin_changes_the_images_alone_and_is_remembered(tiny, tmp_path):
    out = tmp_path / "skins"
    synthetic.make_dataset(out, dataclasses.replace(TINY, subjects=1, images=1, skins=1.0))
    synthetic.make_dataset(tmp_path / "none", dataclasses.replace(TINY, subjects=1, images=1))
    assert dataset_info(out).settings["skins"] == 1.0 and "skins" not in dataset_info(tiny).settings
    assert (out / "S000" / "S000.ply").read_bytes() == (tmp_path / "none" / "S000" / "S000.ply").read_bytes()
    sidecar, plain = (synthetic.load_sidecar(folder / "S000") for folder in (out, tmp_path / "none"))
    assert (sidecar.photographed, plain.photographed) == (1.0, 0.0)
    np.testing.assert_array_equal(sidecar.views[0].pose, plain.views[0].pose)
    images = [synthetic.rerender(one, 0, context()) for one in (sidecar, plain)]
    for folder, image in zip((out, tmp_path / "none"), images):
        ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, TINY.quality])
        assert ok and data.tobytes() == (folder / "S000" / "000.jpg").read_bytes()
    assert np.abs(images[0].astype(int) - images[1]).mean() > 1
    with pytest.raises(ValueError, match="--skins must be within 0 to 1"):
        synthetic.Options(skins=1.5)


def test_the_derived_mesh_covers_the_face_in_the_image(tiny):
    """The silhouette of frame_mesh is where a render with hair and background disagrees with one without a head."""
    sidecar, model = synthetic.load_sidecar(tiny / "S001"), load_face_model()
    camera, vertices = synthetic.frame_mesh(sidecar, 0, model)
    hits = Scene(vertices, model.triangles[model.region("skin")]).cast(camera)
    image = cv2.imread(str(tiny / "S001" / "000.jpg")).astype(int)
    nothing = SceneSubject(context(), sidecar.identity, sidecar.appearance).set(sidecar.views[0])._behind(camera)
    backdrop = 255 * nothing ** (1 / 2.2)
    different = np.abs(image - backdrop).max(-1) > 12
    seen = cv2.erode((hits.triangle >= 0).astype(np.uint8), np.ones((3, 3))) > 0
    assert different[seen].mean() > 0.8


def test_refuses_another_config_with_one_line(tiny, tmp_path, capsys):
    flags = ["--subjects", "2", "--images", "3", "--seed", "6", "--size", "64", "--points", "256"]
    code = synthetic.main([str(tiny), *flags])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1
    assert "was begun with seed 5, now it is 6" in error and str(tiny) in error
    (tmp_path / "notes.txt").write_text("mine")
    assert synthetic.main([str(tmp_path)]) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize("flags, message", [
    (["--subjects", "0"], "--subjects must be within 1 to 100000, got 0"),
    (["--size", "99999"], "--size must be within 16 to 1024, got 99999"),
    (["--points", "1000"], "--points in grid order must be 64, 256, 1024, 4096 or 16384, got 1000"),
    (["--yaw", "nan"], "--yaw must be within 0 to 90, got nan"),
    (["--seed", "4294967296"], "--seed must be within 0 to 4294967295, got 4294967296"),
    (["--workers", "0"], "--workers must be within 1 to 256, got 0"),
])
def test_bad_flags_are_one_line(flags, message, tmp_path, capsys):
    assert synthetic.main([str(tmp_path / "OUT"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "OUT").exists()


def test_bad_sidecars(tiny, tmp_path):
    with pytest.raises(ValueError, match="sidecar.npz: no such sidecar"):
        synthetic.load_sidecar(tmp_path)
    (tmp_path / "sidecar.npz").write_bytes(b"PK no")
    with pytest.raises(ValueError, match="holds no sidecar of a synthetic subject"):
        synthetic.load_sidecar(tmp_path)
    np.savez(tmp_path / "sidecar.npz", version=np.array(99))
    with pytest.raises(ValueError, match="version 3 is needed, received 99"):
        synthetic.load_sidecar(tmp_path)
    np.savez(tmp_path / "sidecar.npz", version=np.array(3))
    with pytest.raises(ValueError, match="lacks an array or holds a wrong one .'appearance_melanin'"):
        synthetic.load_sidecar(tmp_path)
    other = synthetic.load_sidecar(tiny / "S000")._replace(model_hash="0" * 64)
    with pytest.raises(ValueError, match="made with face model 000000000000, received model"):
        synthetic.frame_mesh(other, 0, load_face_model())


def test_a_model_with_other_landmarks_grid_or_texture_is_another_one(tiny, tmp_path):
    """The shape alone does not tell: the same head with moved landmarks gives other targets."""
    model, known = load_face_model(), synthetic.load_sidecar(tiny / "S000")
    assert known.annotations == annotation_hash(model) != model_hash(model)
    for name in ("landmark_weights", "grid_vertices", "grid_weights", "corner_uv_quads", "grid_landmarks", "regions"):
        array = getattr(model, name).copy()
        array.flat[0] += 1
        other = dataclasses.replace(model, **{name: array})
        assert model_hash(other) == model_hash(model), name
        with pytest.raises(ValueError, match="of other landmarks, grid or texture coordinates"):
            synthetic.frame_mesh(known, 0, other)
    synthetic.save_sidecar(tmp_path / "sidecar.npz", known._replace(annotations=""))        # as older files are
    older = synthetic.load_sidecar(tmp_path)
    assert older.annotations == "" and len(synthetic.frame_mesh(older, 0, other)[1]) == len(model.mean)


def test_everybody_is_in_one_list_of_the_split(tiny):
    split = read_split(tiny)
    assert sorted(split.training + split.validation + split.test) == ["S000", "S001"] and split.seed == TINY.seed


def frontal(count: int, seed: int = 0):
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        scene_subject = SceneSubject(context(), load_face_model().sample_identity(rng), sample_appearance(rng))
        view = sample_view(rng, load_face_model().sample_expression(rng, 0.8), Range(15, 15, 10))
        yield scene_subject.set(view)


def test_haar_finds_frontal_faces_where_they_are():
    found, agree = 0, []
    for posed in frontal(20):
        camera = view_camera(posed.view)
        expected = expected_box(camera.project(posed.landmarks()))
        boxes = [d.box for d in detect_faces(posed.render(camera, smooth=False))]
        centre = np.array(expected[:2]) + expected[2] / 2
        hits = [b for b in boxes if np.abs(np.array(b[:2]) + b[2] / 2 - centre).max() < 0.25 * expected[2]]
        found += bool(hits)
        agree += [b[2] / expected[2] for b in hits[:1]]
    assert found >= 18
    assert 0.9 < np.median(agree) < 1.1         # the predicted box is the size of the detector's


def test_a_face_that_the_detector_misses_is_framed_by_its_landmarks(monkeypatch):
    monkeypatch.setattr("Dataset.synthesis.framing.detect_faces", lambda image: [])
    posed = next(frontal(1))
    framing = frame_face(posed, 32)
    assert framing.source == PREDICTED and framing == frame_face(posed, 32)._replace(camera=framing.camera)
    x, y, width, height = framing.box
    expected = expected_box(view_camera(posed.view).project(posed.landmarks()))
    assert width == height and abs(width - expected[2]) < 0.2 * expected[2]
    monkeypatch.setattr("Dataset.synthesis.framing.detect_faces", lambda image: [type("D", (), {
        "box": (0, 0, 20, 20), "pass_name": "wallpaper"})()])
    assert frame_face(posed, 32).source == PREDICTED       # a find elsewhere is not this face


def test_crop_camera_sees_what_the_whole_image_shows():
    posed = next(frontal(1, seed=4))
    whole = view_camera(posed.view)
    box = (50, 60, 64, 64)
    part: Camera = whole.crop(box, 64)
    apart = posed.render(part, smooth=False).astype(int)
    cut = posed.render(whole, smooth=False)[60:124, 50:114].astype(int)
    assert np.median(np.abs(apart - cut)) <= 6        # grain and the softened shadows differ, nothing else


def test_materials_of_the_head_and_a_dressed_subject():
    model = load_face_model()
    kinds = head_materials(model)
    assert (kinds[model.region("skin")] == 0).all() and (kinds[model.region("lashes")] == -1).all()
    scene_subject = next(frontal(1)).scene_subject
    bald = SceneSubject(context(), scene_subject.identity, scene_subject.appearance._replace(hair_style=0))
    hairy = SceneSubject(context(), scene_subject.identity, scene_subject.appearance._replace(hair_style=3))
    assert len(hairy.triangles) > len(bald.triangles) + 1000
    # what is put on leaves the front of the face free
    view = sample_view(np.random.default_rng(0), np.zeros(84))._replace(pose=np.zeros(6, np.float32))
    posed = hairy.set(view)
    camera = view_camera(view)
    hits = posed.scene.cast(camera)
    x, y, _ = camera.project(posed.landmarks()[27:])
    assert (posed.materials[hits.triangle[y.astype(int), x.astype(int)]] < 6).all()
