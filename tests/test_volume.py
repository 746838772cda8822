"""Dataset/representations/volume.py: a slow twin, boxes by hand, there and back within half a voxel, bytes, refusals.
"""
import io
import zipfile

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.rendering.raycast import Scene
from Dataset.representations import volume
from Dataset.representations.volume import Frame, decode, encode, fill, frame_of, from_bytes, front, pack, solid, unpack

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
# counter-clockwise from outside where x, y, z are right-handed
SIDES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                  [0, 6, 4], [1, 5, 7], [1, 7, 3]])


def ball(centre, radius: float, count: int = 12) -> Mesh:
    """A sphere in voxel coordinates; poles on x."""
    around, along = np.meshgrid(np.arange(count) * 2 * np.pi / count, np.linspace(0, np.pi, count))
    points = np.stack([np.cos(along), np.sin(along) * np.cos(around), np.sin(along) * np.sin(around)], -1)
    points = points.reshape(-1, 3)
    row, column = np.divmod(np.arange((count - 1) * count), count)
    a, b = row * count + column, row * count + (column + 1) % count
    triangles = np.concatenate([np.stack([a, a + count, b + count], -1), np.stack([a, b + count, b], -1)])
    return Mesh(np.asarray(centre) + radius * points, triangles)


def winding(points: np.ndarray, mesh: Mesh) -> np.ndarray:
    """How often a mesh goes round points (N, 3): the sum of its triangles' solid angles (Van Oosterom, Strackee 1983).
    """
    total = np.zeros(len(points))
    for corners in mesh.vertices[mesh.triangles]:
        a, b, c = (corner - points for corner in corners)
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        top = (a * np.cross(b, c)).sum(1)
        total += 2 * np.arctan2(top, la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb)
    return total / (4 * np.pi)


def centres(size: int, layers: int) -> np.ndarray:
    """(size, size, layers, 3): x, y, z of the voxels' centres."""
    row, column, layer = np.meshgrid(*(np.arange(n) + 0.5 for n in (size, size, layers)), indexing="ij")
    return np.stack([column, row, layer], -1)


def posed(yaw: float, pitch: float = 0.0, size: int = 96, layers: int = 100, seed: int = 0) -> tuple[Mesh, Frame]:
    model, rng = load_face_model(), np.random.default_rng(seed)
    head = model.shape(model.sample_identity(rng), model.sample_expression(rng, 0.6))
    closed = solid(head @ rotation_from_euler(yaw, pitch).T, model)
    camera = look_at_face(size, 700.0, 3.8 * size, (1.3, -2.1))
    return closed, frame_of(closed.vertices, camera, layers)


def distances(positions: np.ndarray, mesh: Mesh) -> np.ndarray:
    import open3d as o3d
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    tensor = o3d.core.Tensor.from_numpy
    scene.add_triangles(tensor(mesh.vertices.astype(np.float32)), tensor(mesh.triangles.astype(np.uint32)))
    return scene.compute_distance(tensor(positions.astype(np.float32))).numpy()


@pytest.mark.parametrize("balls", [[((6.1, 5.2, 5.3), 4.2)], [((4.5, 5, 4), 3.1), ((7, 6.2, 5), 3.3)],
                                   [((1.0, 11, 0.3), 4.4)]])     # one; two that cross; one half outside
def test_fills_what_the_slow_twin_fills(balls):
    parts = [ball(*centre_and_radius) for centre_and_radius in balls]
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    mesh = Mesh(np.concatenate([part.vertices for part in parts]),
                np.concatenate([part.triangles + start for part, start in zip(parts, starts)]))
    expected = winding(centres(12, 10).reshape(-1, 3), mesh).reshape(12, 12, 10) > 0.5
    found = fill(mesh.vertices, mesh.triangles, 12, 10)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == bool and 20 < found.sum() < found.size
    assert not fill(mesh.vertices, mesh.triangles[:, ::-1], 12, 10).any()


def test_a_box_by_hand():
    found = fill(CUBE * [3, 2, 4] + [2, 5, 3], SIDES, 16, 12)       # edges on pixels' borders and layers' borders
    assert found.sum() == 24 and found[5:7, 2:5, 3:7].all()
    moved = fill(CUBE * [3, 2, 4] + [2.5, 5.5, 3.4], SIDES, 16, 12)     # edges through pixels' centres
    assert moved.sum() == 24
    assert not fill(CUBE * 3 + [2, 2, 20], SIDES, 16, 12).any() and not fill(CUBE - 5, SIDES, 16, 12).any()
    assert fill(CUBE * [3, 2, 50] + [2, 5, -9], SIDES, 16, 12)[5:7, 2:5].all()      # from before the first layer


def test_depth_has_the_unit_of_a_pixel_and_its_middle():
    camera = look_at_face(64, 500.0, 256.0)
    box = Mesh((CUBE - 0.5) * [40, 20, 60] + [0, 0, 10], SIDES)         # z towards the camera: depths 460 to 520
    frame = frame_of(box.vertices, camera, 80)
    assert frame.middle == 490 and frame.scale == pytest.approx(256 / 490)
    seen = frame.voxels(np.array([[0, 0, 40], [0, 0, -20], [15, 0, 10], [0, 10, 10.0]]))
    np.testing.assert_allclose(seen[:, 2], [40 - 30 * frame.scale, 40 + 30 * frame.scale, 40, 40])
    assert seen[2, 0] - 32 == pytest.approx(15 * frame.scale) and 32 - seen[3, 1] == pytest.approx(10 * frame.scale)
    positions = np.random.default_rng(0).normal(0, 30, (50, 3))
    np.testing.assert_allclose(frame.world(frame.voxels(positions)), positions, atol=1e-9)
    guessed = volume.estimate_frame(96, 100)
    np.testing.assert_allclose(guessed.world([48.0, 48.0, 50.0]), [0, 0, 0], atol=1e-9)
    assert guessed.scale == pytest.approx(4.2 * 96 / 800)


@pytest.mark.parametrize("size, yaw, pitch", [(96, 0, 0), (96, 80, -20), (96, -45, 25), (192, 30, 10)])
def test_there_and_back_within_half_a_voxel(size, yaw, pitch):
    closed, frame = posed(yaw, pitch, size, size + 4)
    true = closed._replace(vertices=frame.voxels(closed.vertices))
    inside = ((true.vertices > 1) & (true.vertices < [size - 1, size - 1, size + 3])).all(1)
    surface = decode(encode(closed, frame.camera, size + 4))
    there, back = distances(surface.vertices, true), distances(true.vertices[inside], surface)
    assert there.mean() < 0.3 and back.mean() < 0.3 and np.percentile(there, 99) < 1     # <= 0.5 is asked for


def test_the_face_is_closed_and_its_triangles_look_outwards():
    model = load_face_model()
    closed = solid(model.mean, model)
    sides = np.sort(np.stack([closed.triangles, np.roll(closed.triangles, -1, 1)], 2).reshape(-1, 2), 1)
    assert (np.unique(sides, axis=0, return_counts=True)[1] == 2).all()
    a, b, c = (closed.vertices[closed.triangles[:, k]] for k in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(667_410, rel=1e-3)        # mm^3
    camera = look_at_face(96, 8000, 3000)
    surface, scale = decode(encode(closed, camera, 100)), frame_of(closed.vertices, camera, 100).scale
    a, b, c = (surface.vertices[surface.triangles[:, k]] for k in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(667_410 * scale ** 3, rel=0.03)
    with pytest.raises(ValueError, match=r"vertices must be \(4881, 3\), received shape \(3, 3\)"):
        solid(np.zeros((3, 3)), model)


def test_air_behind_the_nose_stays_free():
    closed, frame = posed(80)
    filled = encode(closed, frame.camera, frame.layers)
    enters = (np.diff(filled.astype(np.int8), axis=-1, prepend=0) == 1).sum(-1)
    assert (enters > 1).sum() > 30         # rays that meet the face, leave it and meet it again
    scene = Scene(closed.vertices, closed.triangles, 1).cast(frame.camera)
    first = frame.layers / 2 + (scene.depth - frame.middle) * frame.scale
    both = np.isfinite(first) & np.isfinite(front(filled))
    assert both.sum() > 0.98 * np.isfinite(first).sum()
    assert np.percentile(np.abs(front(filled) - first)[both], 99) <= 0.5      # but for what is thinner than a layer


def test_packed_bits():
    rng = np.random.default_rng(1)
    filled = rng.random((16, 16, 20)) < 0.3
    packed = pack(filled)
    assert packed.shape == (16, 16, 3) and packed.dtype == np.uint8 and packed[0, 0, 0] >> 7 == filled[0, 0, 0]
    np.testing.assert_array_equal(unpack(packed, 20), filled)
    np.testing.assert_array_equal(unpack(packed[None], 20)[0], filled)
    assert pack(np.zeros((192, 192, 200), bool)).nbytes == 921_600
    with pytest.raises(ValueError, match="occupancy is .* bool, received .* float64"):
        pack(filled.astype(float))
    with pytest.raises(ValueError, match=r"24 packed layers are|32 packed layers are"):
        unpack(packed, 32)


def test_a_file_of_packed_bits(tmp_path):
    """There and back, the same bytes each time, and about as small as it can be."""
    closed, frame = posed(30, 10, 192, 200)
    filled, file = encode(closed, frame.camera, 200), tmp_path / "new" / "face.npz"
    volume.save_volume(file, filled)
    again = volume.load_volume(file)
    assert again.dtype == bool and again.shape == (192, 192, 200)
    np.testing.assert_array_equal(again, filled)
    assert 20_000 < file.stat().st_size < 40_000            # of 921,600 packed and 7,372,800 as they are
    first = file.read_bytes()
    volume.save_volume(file, filled)
    assert file.read_bytes() == first and [path.name for path in file.parent.iterdir()] == ["face.npz"]
    odd = np.random.default_rng(2).random((16, 16, 21)) < 0.4
    volume.save_volume(file, odd)
    np.testing.assert_array_equal(volume.load_volume(file), odd)
    for wrong, rule in ((odd.astype(np.uint8), "occupancy is"), (odd[:, :12], "a square of 8 to 1024 pixels"),
                        (odd[:4, :4], "a square of 8 to 1024 pixels")):
        with pytest.raises(ValueError, match=rule):
            volume.save_volume(file, wrong)


def test_files_that_hold_no_volume(tmp_path):
    packed, layers = np.zeros((16, 16, 3), np.uint8), np.array(20, np.int64)
    for name, arrays in {"other layers": (packed, layers + 8), "no square": (packed[:9], layers),
                         "other kind": (packed.astype(np.int8), layers), "flat": (packed[0], layers),
                         "objects": (np.array([None]), layers), "layers": (packed, np.array([20, 20])),
                         "empty": (packed[:0], layers)}.items():
        np.savez(tmp_path / f"{name}.npz", packed=arrays[0], layers=arrays[1])
    np.savez(tmp_path / "half.npz", layers=layers)
    (tmp_path / "text.npz").write_text("hello")
    volume.save_volume(tmp_path / "whole.npz", np.ones((16, 16, 20), bool))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "whole.npz").unlink()
    with zipfile.ZipFile(tmp_path / "boast.npz", "w") as archive:       # a header that asks for a terabyte
        for name, array in (("layers", layers), ("packed", packed)):
            data = io.BytesIO()
            np.save(data, array)
            archive.writestr(f"{name}.npy", data.getvalue().replace(b"(16, 16, 3), }" + 6 * b" ",
                                                                    b"(999999, 999999, 3)}"))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 11
    for file in [*files, tmp_path / "none.npz"]:
        with pytest.raises(ValueError, match=f"{file}: holds no packed volume") as error:
            volume.load_volume(file)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="packed.npy promises 2999994000003 numbers, its entry has 896"):
        volume.load_volume(tmp_path / "boast.npz")


def test_signed_bytes_are_refused_and_unsigned_ones_are_smooth():
    """Published tools read the uint8 volume as int8: 0.6 becomes -103, and the surface is where 0 and 127 meet."""
    radius = np.linalg.norm(centres(32, 32) - 16, axis=-1)
    smooth = 1 / (1 + np.exp(3 * (radius - 10))).astype(np.float32)
    stored = volume.to_bytes(smooth)
    assert stored.max() == 255 and stored.view(np.int8).min() < 0
    np.testing.assert_allclose(from_bytes(stored), smooth, atol=0.5 / 255 + 1e-6)

    def roughness(values):
        return np.abs(np.linalg.norm(decode(values).vertices - 16, axis=1) - 10).max()
    assert roughness(stored) < 0.06 and roughness(smooth) < 0.06
    as_published = np.clip(stored.view(np.int8).astype(np.float32) / 255, 0, 1)       # what is left of it
    assert not (as_published > 0.5).any()
    for wrong in (stored.view(np.int8), stored.astype(np.int64)):
        with pytest.raises(ValueError, match="has lost its inside"):
            decode(wrong)
        with pytest.raises(ValueError, match="bytes are uint8"):
            from_bytes(wrong)


def test_surface_between_two_values_is_linear():
    values = np.zeros((8, 8, 8), np.float32)
    values[2:6, 2:6, 4:] = 1.0
    values[2:6, 2:6, 3] = 0.3
    np.testing.assert_allclose(front(values)[3, 3], 3.5 + (0.5 - 0.3) / 0.7, atol=1e-6)
    assert np.isnan(front(values)[0, 0])
    surface = decode(values).vertices
    middle = (np.abs(surface[:, :2] - 4) < 1).all(1)
    np.testing.assert_allclose(surface[middle, 2].min(), 3.5 + 0.2 / 0.7, atol=1e-5)
    values[4, 4] = 1
    assert front(values)[4, 4] == 0
    depth = volume.front_depth(values, Frame(look_at_face(8, 100.0, 50.0), 8, 100.0))
    assert depth[4, 4] == 100 - 4 / 0.5 and depth.dtype == np.float32


def test_colours_come_from_the_photo():
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10, 20 * np.arange(8)[:, None], 30 * np.arange(8)      # BGR
    found = volume.colours_at(image, np.array([[0.5, 0.5, 9], [3.0, 6.5, 1], [-5, 100, 0], [7.5, 7.5, 2]]))
    np.testing.assert_array_equal(found, [[0, 0, 10], [75, 120, 10], [0, 140, 10], [210, 140, 10]])     # RGB
    values = np.zeros((8, 8, 8))
    values[2:6, 2:6, 2:6] = 1
    mesh = decode(values, image)
    assert mesh.colours.shape == mesh.vertices.shape and mesh.colours.dtype == np.uint8
    assert volume.colours_at(image, np.zeros((40_000, 3))).shape == (40_000, 3)
    with pytest.raises(ValueError, match="an image is"):
        decode(values, image[..., 0])


@pytest.mark.parametrize("values, message", [
    (np.zeros((8, 8, 8)), "empty: no surface, nothing is inside"), (np.ones((8, 8, 8)), "everything is inside"),
    (np.full((8, 8, 8), -3.0), "take the sigmoid"), (np.full((8, 8, 8), np.nan), "take the sigmoid"),
    (np.zeros((8, 9, 8)), "received .8, 9, 8."), (np.zeros((8, 8)), "received .8, 8."),
    (np.zeros((4, 4, 8)), "a square of 8 to 1024 pixels")])
def test_bad_volumes(values, message):
    with pytest.raises(ValueError, match=message):
        decode(values)


def test_bad_solids():
    camera = look_at_face(64, 500.0, 256.0)
    with pytest.raises(ValueError, match="all of them before the camera"):
        encode(Mesh(CUBE + [0, 0, 500], SIDES), camera)
    with pytest.raises(ValueError, match="all of them before the camera"):
        encode(Mesh(np.zeros((0, 3))), camera)
    with pytest.raises(ValueError, match="received 64 x 64 x 5000"):
        encode(Mesh(CUBE, SIDES), camera, 5000)
    with pytest.raises(ValueError, match="received 64 x 32 x 200"):
        encode(Mesh(CUBE, SIDES), camera._replace(width=32))
