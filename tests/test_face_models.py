"""Other subjects' face models: tiny files of each layout read back, one adopted and used, and what must be refused."""
from __future__ import annotations

import os
import pickle
import re

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from Dataset.face_model import expressions
from Dataset.face_model.adopted import adopted_path, find_adopted, source_hash
from Dataset.face_model.model import BUILT_IN, VARIABLE, load_face_model, use_face_model
from Dataset.face_model.readers import basel, raw
from Dataset.face_model.readers.flame import read_flame
from Dataset.face_model.readers.ict import arkit_name
from Dataset.fitting import adopt as adopting
from Dataset.fitting.adopt import SIGMAS, adopt, expression_basis, main, read_raw, weights_of, words, write_model
from Dataset.fitting.multi_view import joint_fit
from Dataset.fitting.scan_fit import Landmarks, fit_model, grid_is_skin
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.io.landmark_files import write_landmarks
from Dataset.representations.correspondences import from_landmarks
from Dataset.representations.points import encode
from Dataset.synthesis import subject_folders as synthetic
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext, SceneSubject, sample_view, view_camera
from Dataset.synthesis.skin import sample_appearance
from Dataset.synthesis.subject_folders import Options, make_dataset
from tests.face_files import WRITERS, make, write_basel_2009, write_basel_2017, write_flame, write_ict
from tests.seen import see

OWN = load_face_model(BUILT_IN)


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.fixture(scope="module")
def file(made, tmp_path_factory):
    path = write_basel_2017(tmp_path_factory.mktemp("models") / "model.h5", made)
    write_landmarks(f"{path}.landmarks.json", OWN.landmarks(OWN.shape(made.subject)) + made.moved)
    return path


@pytest.fixture(scope="module")
def adopted(file):
    return adopt(read_raw(file))


@pytest.fixture(scope="module")
def loaded(file, adopted):
    patch = pytest.MonkeyPatch()
    patch.setattr(adopting, "adopt", lambda raw: adopted)
    assert main([str(file)]) == 0
    patch.undo()
    return load_face_model(file)


@pytest.mark.parametrize("name", WRITERS)
def test_every_layout_says_the_same(name, made, tmp_path):
    found = read_flame(WRITERS[name](tmp_path / name, made), 4) if name == "m.pkl" \
        else read_raw(WRITERS[name](tmp_path / name, made))
    np.testing.assert_allclose(found.mean, made.mean, atol=1e-4)
    np.testing.assert_allclose(found.identity, made.identity, atol=1e-4)
    np.testing.assert_array_equal(np.sort(found.triangles), np.sort(made.triangles))
    assert found.identity.dtype == np.float32 and found.triangles.dtype == np.int64
    if name == "m.mat":
        assert found.expression.shape == (0, len(made.mean), 3)
    else:
        order = [1, 0] if name == "facekit" else [0, 1]
        np.testing.assert_allclose(found.expression, made.expression[order], atol=1e-4)
    assert found.signed is (name in ("m.h5", "m.pkl"))
    if name == "facekit":
        assert found.expression_names == ("browDownLeft", "jawOpen")
    subject = found.shape([1.0, -2.0], [0.5] if len(found.expression) else None)
    slow = found.mean + found.identity[0] - 2 * found.identity[1]
    slow = slow + 0.5 * found.expression[0] if len(found.expression) else slow
    np.testing.assert_allclose(subject, slow, atol=1e-4)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_flame_file_of_any_protocol(made, tmp_path, protocol):
    file = write_flame(tmp_path / "m.pkl", made, protocol)
    assert (b"copy_reg\n_reconstructor" in file.read_bytes()) is (protocol < 2)
    assert (b"__builtin__\nset" in file.read_bytes()) is (protocol < 4)
    np.testing.assert_allclose(read_flame(file, 4).identity, made.identity, rtol=1e-5, atol=1e-6)


def test_without_a_number_of_identities_a_small_flame_is_all_identity(made, tmp_path):
    found = read_raw(write_flame(tmp_path / "m.pkl", made))
    assert len(found.identity) == 6 and len(found.expression) == 0


def test_an_adopted_model_is_the_files(made, adopted):
    model, alignment, report = adopted
    assert report.surface < 0.08 and report.subjects < 0.15 and report.covered == 1
    assert report.identity == report.expression == 1 and not report.borrowed
    skin = grid_is_skin(OWN).ravel()
    truth = alignment.apply(OWN.grid_matrix @ OWN.shape(made.subject) + made.moved)[skin]
    off = np.linalg.norm((OWN.grid_matrix @ model.mean)[skin] - truth, axis=1)
    floor = np.linalg.norm((OWN.grid_matrix @ OWN.mean)[skin] - truth, axis=1)
    assert off.mean() < 0.5 and off.mean() < floor.mean() / 3, (off.mean(), floor.mean())
    # the file's first subject: the built-in's first direction, three times
    moved = OWN.shape(made.subject) + 3 * OWN.identity[0]
    moved = alignment.apply(OWN.grid_matrix @ moved + made.moved)
    ours = OWN.grid_matrix @ model.shape([1.0])
    assert np.linalg.norm(ours[skin] - moved[skin], axis=1).mean() < 0.6
    eyes = [model.mean[np.unique(model.triangles[model.region(name)])] for name in ("eye_right", "eye_left")]
    np.testing.assert_allclose(np.mean([(e.min(0) + e.max(0)) / 2 for e in eyes], 0), 0, atol=0.01)
    np.testing.assert_allclose(alignment.rotation @ alignment.rotation.T, np.eye(3), atol=1e-9)
    assert alignment.scale == 1


def test_it_has_the_built_in_ones_sizes(adopted):
    model = adopted.model
    assert model.identity.shape == OWN.identity.shape and model.expression.shape == OWN.expression.shape
    assert len(set(model.expression_names)) == 84 and not model.identity[4:].any() and not model.expression[4:].any()
    np.testing.assert_array_equal(model.expression[:2], -model.expression[2:4])
    skull = np.unique(OWN.triangles[OWN.region("eye_right", "eye_left", "teeth_upper")])
    assert not model.expression[:, skull].any()


def test_nothing_is_folded_when_the_mouth_opens(adopted):
    """The mouth's inside stays inside: no vertex of it comes before the lips."""
    model = adopted.model
    inside = np.setdiff1d(np.unique(model.triangles[model.region("mouth")]),
                          np.unique(model.triangles[model.region("skin")]))
    open_ = model.shape(None, [1 / SIGMAS])
    lips = model.landmarks(open_)[48:60, 2].max()
    assert open_[inside, 2].max() < lips


def test_a_file_is_read_by_its_adopted_model(file, loaded, monkeypatch):
    beside = file.with_name("model.h5.adopted.npz")
    assert adopted_path(file) == find_adopted(file) == beside and beside.is_file()
    first = beside.read_bytes()
    write_model(beside, loaded, source_hash(file))
    assert beside.read_bytes() == first             # the same model gives the same bytes, read back, too
    np.testing.assert_array_equal(load_face_model(beside).mean, loaded.mean)
    assert not loaded.mean.flags.writeable


def test_a_file_that_was_not_adopted_names_the_command(tmp_path, made, file, loaded):
    """None beside it, one of another file, half of one, something else: one line each."""
    other = write_basel_2017(tmp_path / "model.h5", made._replace(mean=made.mean * 1.02))
    beside, good = tmp_path / "model.h5.adopted.npz", file.with_name("model.h5.adopted.npz").read_bytes()
    command = re.escape(f"run python -m Dataset.adopt {other}") + "$"
    for data, rule in ((None, f"{other}: .*no {beside.name} beside it"), (good, f"{beside}: made of another file"),
                       (good[:1000], f"{beside}: holds no adopted face model"),
                       (b"no npz", f"{beside}: holds no adopted face model")):
        if data is not None:
            beside.write_bytes(data)
        with pytest.raises(ValueError, match=f"^{rule}.*{command}") as caught:
            load_face_model(other)
        assert "\n" not in str(caught.value)
    write_model(beside, loaded, source_hash(other))
    np.testing.assert_array_equal(load_face_model(other).mean, loaded.mean)
    write_landmarks(f"{other}.landmarks.json", OWN.landmarks(OWN.mean))     # which were not there when it was adopted
    with pytest.raises(ValueError, match="made of another file"):
        find_adopted(other)


def test_the_written_model_is_the_adopted_one(adopted, loaded):
    for name in ("mean", "identity", "expression"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(adopted.model, name), atol=2e-3)
    for name in ("quads", "corner_uv_quads", "regions", "grid_vertices", "landmark_weights"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(OWN, name))


def test_photos_are_fitted_with_it(loaded):
    subject, rng = np.array([1.2, -0.8, 0.6, -1.0]), np.random.default_rng(1)
    photos = [see(loaded, subject, rng, angles=(yaw, 5, 0)).photo for yaw in (-35, 0, 35)]
    fit = joint_fit(photos, loaded)
    error = np.abs(encode(fit.neutral(loaded), 32, loaded) - encode(loaded.shape(subject), 32, loaded)).mean()
    floor = np.abs(encode(loaded.mean, 32, loaded) - encode(loaded.shape(subject), 32, loaded)).mean()
    assert error < 0.25 * floor, (error, floor)
    marks = see(loaded, subject, rng).landmarks
    assert np.linalg.norm(joint_fit([from_landmarks(marks, 128, model=loaded)], loaded).landmarks(0, loaded)
                          - marks, axis=1)[17:].mean() < 1.5


def test_a_scan_is_fitted_with_it(loaded):
    truth = np.array([1.0, 1.0, -1.0, 0.5])
    subject = loaded.shape(truth)
    scan = ScanSurface(Mesh(subject, loaded.triangles[np.sort(loaded.region("skin"))]))
    found = fit_model(scan, Landmarks(np.arange(17, 68), loaded.landmarks(subject)[17:]), loaded)
    assert found.residual < 0.1
    np.testing.assert_allclose(found.identity[:4], truth, atol=0.25)
    assert not found.identity[4:].any()


def test_subjects_are_rendered_of_it(loaded, file, tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    context = RenderContext(loaded, threads=1)
    scene_subject = SceneSubject(context, loaded.sample_identity(rng), sample_appearance(rng))
    view = sample_view(rng, loaded.sample_expression(rng), angles=np.array([20.0, 0, 0]))
    image = scene_subject.set(view).render(view_camera(view))
    assert image.std() > 20
    options = RenderOptions(subjects=1, images=1, size=32, buffers=("uv", "mask", "depth"), detect=0)
    arrays = render_subject(0, options, context)
    assert arrays["mask"].mean() > 0.05 and np.isfinite(arrays["uv"][arrays["mask"]].astype(float)).all()
    monkeypatch.setenv(VARIABLE, "")
    use_face_model(file)
    make_dataset(tmp_path / "set", Options(subjects=1, images=1, size=32, points=64))
    from Dataset.synthesis.subject_folders import frame_mesh, load_sidecar
    sidecar = load_sidecar(tmp_path / "set" / "S000")
    assert frame_mesh(sidecar, 0, loaded)[1].shape == OWN.mean.shape
    with pytest.raises(ValueError, match="made with face model"):
        frame_mesh(sidecar, 0, OWN)


def test_a_bad_file_ends_the_command_with_one_line(tmp_path, capsys):
    assert synthetic.main([str(tmp_path / "out"), "--face-model", str(tmp_path / "none.mat")]) == 2
    assert capsys.readouterr().err == f"Dataset.synthetic: {tmp_path / 'none.mat'}: no such file\n"
    assert not (tmp_path / "out").exists()


def test_use_face_model_is_the_process_default(file, loaded, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    assert (load_face_model().mean == OWN.mean).all() and (use_face_model(None).mean == OWN.mean).all()
    assert use_face_model(file) is load_face_model() and (load_face_model().mean == loaded.mean).all()
    assert os.environ[VARIABLE] == str(file.resolve())
    with pytest.raises(ValueError, match="nothing.mat: no such file"):
        use_face_model(file.with_name("nothing.mat"))
    assert (load_face_model().mean == loaded.mean).all()


def test_a_model_without_expressions_borrows_ours(made):
    bare = raw.RawModel("x", made.mean, made.triangles, made.identity, np.zeros((0, len(made.mean), 3)), (), False)
    basis, names = expression_basis(bare, np.zeros((0, 4881, 3)), OWN)
    assert basis is OWN.expression and names == OWN.expression_names


def test_there_and_back():
    weights = weights_of(np.array([1.5, -3.0, 9.0]), signed=True)
    np.testing.assert_allclose(weights, [0.5, 0, 1, 0, 1, 0])
    np.testing.assert_allclose(weights_of(np.array([0.5, 1.0]), signed=False), [0.5, 1.0])


def test_random_expressions_of_any_model(loaded):
    drawn = np.stack([loaded.sample_expression(np.random.default_rng(k)) for k in range(200)])
    assert drawn.min() == 0 and drawn.max() <= 1 and not drawn[:, 4:].any()
    assert not (drawn[:, :2] * drawn[:, 2:4]).any()
    sigma = SIGMAS * (drawn[:, :2] - drawn[:, 2:4])
    assert abs(sigma.mean()) < 0.2 and 0.8 < sigma.std() < 1.2
    few = ("jawOpen", "browDownLeft", "browDownRight", "none000")
    weights = np.stack([expressions.sample_expression(few, np.random.default_rng(k)) for k in range(100)])
    assert (weights[:, :3] > 0).any(0).all() and not weights[:, 3].any()


def test_landmarks_beside_a_file(made, file, adopted, tmp_path):
    marks = OWN.landmarks(OWN.shape(made.subject)) + made.moved
    np.testing.assert_allclose(read_raw(file).landmarks, marks, atol=1e-5)
    assert adopted.report.landmarks < 1.0 and "its landmarks" in words(adopted.report)
    assert read_raw(write_basel_2009(tmp_path / "m.mat", made)).landmarks is None


class Evil:
    """Writes a file when it is unpickled by an ordinary unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_runs_something_is_refused(tmp_path, made, protocol):
    done, file = tmp_path / "done", tmp_path / "evil.pkl"
    data = {"v_template": made.mean / 1000, "shapedirs": Evil(done), "f": made.triangles}
    file.write_bytes(pickle.dumps(data, protocol=protocol))
    with pytest.raises(ValueError, match=rf"{file}: no FLAME model .*mkdir.* not run"):
        read_raw(file)
    assert not done.exists()


@pytest.mark.parametrize("call", [b"cbuiltins\neval\n", b"cnumpy\nload\n", b"cnumpy.f2py\nrun_main\n",
                                  b"cDataset.atomic\nwrite_text\n", b"cpickle\nloads\n", b"ccopyreg\n_reconstructor\n",
                                  b"cchumpy\n__builtins__.eval\n", b"c__builtin__\neval\n", b"c__builtin__\ngetattr\n",
                                  b"ccopy_reg\n__newobj__\n"])
def test_no_other_name_leads_out_of_a_pickle(tmp_path, call):
    file = tmp_path / "evil.pkl"
    file.write_bytes(call + b"(V1+1\ntR.")
    with pytest.raises(ValueError, match=f"{file}: no FLAME model"):
        read_raw(file)


@pytest.mark.parametrize("module", [b"copyreg", b"copy_reg"])
@pytest.mark.parametrize("arguments", [
    b"cos\nsystem\nc__builtin__\nobject\nN", b"cDataset.mesh\nMesh\nc__builtin__\ntuple\nN",      # another class
    b"cnumpy\ndtype\nc__builtin__\nobject\nN", b"c__builtin__\nobject\nc__builtin__\nobject\nN",
    b"cchumpy.ch\nCh\nc__builtin__\nlist\n(lI1\na", b"cchumpy.ch\nCh\nc__builtin__\nset\n(lI1\na",    # another base
    b"cchumpy.ch\nCh\nc__builtin__\nobject\nV1\n", b"VCh\nVobject\nN"])
def test_only_stand_ins_are_rebuilt(tmp_path, module, arguments):
    file = tmp_path / "evil.pkl"
    file.write_bytes(b"c" + module + b"\n_reconstructor\n(" + arguments + b"tR.")
    with pytest.raises(ValueError, match=f"{file}: no FLAME model .*(not run|not made)"):
        read_raw(file)


def test_strange_arrays_in_a_pickle_are_refused(tmp_path, made):
    good = {"v_template": made.mean / 1000, "shapedirs": made.identity.transpose(1, 2, 0), "f": made.triangles}
    for change, rule in (({"f": made.triangles + 10**6}, "triangles must name vertices"),
                         ({"v_template": "mean"}, "must be an array of numbers"),
                         ({"shapedirs": np.zeros((3, 3, 3))}, "shapedirs"),
                         ({"v_template": made.mean * np.nan}, "finite"),
                         ({"v_template": np.array([None, 1])}, "numbers")):
        file = tmp_path / "bad.pkl"
        file.write_bytes(pickle.dumps({**good, **change}, protocol=2))
        with pytest.raises(ValueError, match=f"{file}: .*{rule}"):
            read_raw(file)


def test_bad_files_are_named(tmp_path, made, capsys):
    cases = {"none.mat": (None, "no such file"), "text.mat": (b"hello", "no face model"),
             "text.h5": (b"hello", "no face model"), "text.pkl": (b"hello", "no FLAME model"),
             "empty.pkl": (b"", "no FLAME model"), "list.pkl": (pickle.dumps([1]), "no dictionary"),
             "model.obj": (b"v 0 0 0", "a face model is a file that ends in")}
    for name, (data, rule) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{tmp_path / name}: .*{rule}"):
            read_raw(tmp_path / name)
        assert main([str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    scipy.io.savemat(tmp_path / "half.mat", {"shapeMU": np.zeros((30, 1))})
    with pytest.raises(ValueError, match="found no shapePC, shapeEV, tl"):
        read_raw(tmp_path / "half.mat")
    whole = write_basel_2009(tmp_path / "whole.mat", made).read_bytes()
    (tmp_path / "cut.mat").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="cut.mat: "):
        read_raw(tmp_path / "cut.mat")


def test_sparse_and_empty_arrays_and_loops_of_links_are_named(tmp_path, made):
    """What has no numbers where they belong, or cannot be opened, is one ValueError."""
    arrays = scipy.io.loadmat(write_basel_2009(tmp_path / "sparse.mat", made))
    scipy.io.savemat(tmp_path / "sparse.mat", {**{k: v for k, v in arrays.items() if k[0] != "_"},
                                               "shapeEV": scipy.sparse.csc_matrix(arrays["shapeEV"])})
    with h5py.File(write_basel_2017(tmp_path / "empty.h5", made), "a") as file:
        del file["shape/model/mean"]
        file["shape/model/mean"] = h5py.Empty("f")
    kit = write_ict(tmp_path / "kit", made)
    (kit / "loop.obj").symlink_to("loop.obj")
    for name in ("sparse.mat", "empty.h5", "kit"):
        with pytest.raises(ValueError, match=f"{tmp_path / name}.*: "):
            read_raw(tmp_path / name)
    with pytest.raises(ValueError, match="loop.obj: cannot be read"):
        source_hash(kit)


def test_an_h5_file_reads_no_other_file(tmp_path, made):
    write_basel_2017(tmp_path / "secret.h5", made)
    with h5py.File(write_basel_2017(tmp_path / "link.h5", made), "a") as file:
        del file["shape/model/mean"]
        file["shape/model/mean"] = h5py.ExternalLink("secret.h5", "shape/model/mean")
    with pytest.raises(ValueError, match="link.h5: shape/model/mean must lie in the file itself"):
        read_raw(tmp_path / "link.h5")


def test_sizes_are_bounded(tmp_path, made, monkeypatch):
    file = write_basel_2009(tmp_path / "m.mat", made)
    monkeypatch.setattr(basel, "check_size", lambda path: raw.check_size(path, (1 << 30) + 1))
    with pytest.raises(ValueError, match="at most 1024 MB"):
        read_raw(file)
    monkeypatch.undo()
    monkeypatch.setattr(raw, "MAX_VERTICES", 1)
    with pytest.raises(ValueError, match="too large"):
        read_raw(file)


def test_what_is_no_face_is_named(made, tmp_path):
    file = write_basel_2017(tmp_path / "big.h5", made._replace(mean=made.mean * 10))
    with pytest.raises(ValueError, match=f"{file}: .*must be a scan of a face in mm"):
        adopt(read_raw(file))
    folder = write_ict(tmp_path / "kit", made)
    (folder / "identity002.obj").unlink()
    with pytest.raises(ValueError, match="without gaps"):
        read_raw(folder)
    (folder / "identity002.obj").write_text("v 1 2 3\n")
    with pytest.raises(ValueError, match=r"identity002.obj: must have the mean's \d+ vertices, received \(1, 3\)"):
        read_raw(folder)
    assert arkit_name("mouthSmile_R") == "mouthSmileRight" and arkit_name("jawOpen") == "jawOpen"
