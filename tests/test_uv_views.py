"""Evaluation/views/uv.py: maps whose truth is known by a formula, slow twins, and what must be refused."""
import cv2
import numpy as np
import pytest

from Evaluation.metrics import locate as locating
from Evaluation.metrics.locate import locate
from Evaluation.views.uv import TextureMean, grid_lines, grid_points, lift, project_texture, unproject


def pixels(height, width):
    """x, y (H, W, 2) float64 of the pixels' centres."""
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)


def affine_map(height=60, width=80, disc=True):
    """u, v of a tilted plane, on a disc; and the affine map from u, v back to x, y."""
    matrix, shift = np.array([[0.011, 0.003], [0.002, -0.013]]), np.array([0.02, 0.85])
    uv = pixels(height, width) @ matrix.T + shift
    if disc:
        uv[np.hypot(*(pixels(height, width) - [width / 2, height / 2]).transpose(2, 0, 1)) > 0.4 * height] = np.nan
    return uv.astype(np.float32), lambda points: (np.asarray(points) - shift) @ np.linalg.inv(matrix).T


def sphere_map(size=96):
    """A ball seen from the front: u and v are its longitude and latitude; the inverse gives x, y."""
    radius = 0.45 * size
    x, y = np.moveaxis((pixels(size, size) - size / 2) / radius, -1, 0)
    with np.errstate(invalid="ignore"):
        z = np.sqrt(1 - x * x - y * y)
        uv = np.stack([np.arctan2(x, z), -np.arcsin(y)], -1) / np.pi + 0.5

    def back(points):
        longitude, latitude = (np.pi * (np.asarray(points) - 0.5)).T
        return size / 2 + radius * np.stack([np.sin(longitude) * np.cos(latitude), -np.sin(latitude)], -1)
    uv[np.isnan(z)] = np.nan
    return uv.astype(np.float32), back


def smooth_texture(n=64):
    """A texture whose colour is its position: blue u, green v, red half."""
    u, v = np.meshgrid((np.arange(n) + 0.5) / n, 1 - (np.arange(n) + 0.5) / n)
    return np.rint(255 * np.stack([u, v, np.full_like(u, 0.5)], -1)).astype(np.uint8)


def photo_like(uv, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*uv.shape[:2], 3), np.uint8)


def test_points_of_an_affine_map_are_exact():
    uv, back = affine_map()
    points = np.random.default_rng(1).uniform(0, 1, (500, 2))
    found, truth = locate(uv, points), back(points)
    inner = np.hypot(*(truth - [40, 30]).T) < 22
    outer = np.hypot(*(truth - [40, 30]).T) > 25
    assert inner.sum() > 50 and outer.sum() > 100
    np.testing.assert_allclose(found[inner], truth[inner], atol=2e-4)           # float32 maps
    assert np.isnan(found[outer]).all()


def test_points_of_a_ball_are_found_to_a_hundredth_of_a_pixel():
    uv, back = sphere_map()
    points = np.random.default_rng(2).uniform(0.25, 0.75, (300, 2))
    np.testing.assert_allclose(locate(uv, points), back(points), atol=0.02)


def slow_locate(uv, point):
    """Every triangle in turn."""
    total, turns = np.zeros(2), 0.0
    for r in range(uv.shape[0] - 1):
        for c in range(uv.shape[1] - 1):
            quad = uv[r:r + 2, c:c + 2].reshape(4, 2).astype(float)
            if np.isnan(quad).any() or np.ptp(quad, axis=0).max() > 0.1:
                continue
            for numbers in ((0, 1, 2), (3, 2, 1)):
                corners = quad[list(numbers)]
                system = np.vstack([corners.T, np.ones(3)])
                if abs(np.linalg.det(system)) < 1e-15:
                    continue
                weights = np.linalg.solve(system, [*point, 1])
                if (weights >= 0).all():
                    at = [(c + n % 2 + 0.5, r + n // 2 + 0.5) for n in numbers]
                    sign = np.sign(np.linalg.det(system))
                    total, turns = total + sign * (weights @ np.array(at)), turns + sign
    return total / turns if turns else np.full(2, np.nan)


def test_points_of_a_noisy_map_against_a_slow_twin():
    uv, _ = sphere_map(24)
    rng = np.random.default_rng(3)
    uv += rng.normal(0, 0.012, uv.shape).astype(np.float32)        # a fifth of a pixel's step: some triangles fold
    uv[10:12, 14] = np.nan
    points = rng.uniform(0.1, 0.9, (40, 2))
    found = locate(uv, points)
    assert np.isfinite(found[:, 0]).sum() > 20
    np.testing.assert_allclose(found, [slow_locate(uv, point) for point in points], atol=1e-6)


def test_work_is_done_in_parts(monkeypatch):
    """A map of noise, as an untrained network's, takes no more memory than another, and parts give the whole."""
    uv = np.random.default_rng(8).uniform(0.4, 0.55, (60, 60, 2)).astype(np.float32)
    points = np.random.default_rng(9).uniform(0.3, 0.6, (50, 2))
    whole = locate(uv, points)
    assert np.isfinite(whole[:, 0]).any() and np.isnan(whole[:, 0]).any()
    monkeypatch.setattr(locating, "_PART", 1000)
    sizes = [len(point) for _, _, point in locating._candidates(uv, points)]
    assert len(sizes) > 20 and max(sizes) < 1100
    np.testing.assert_allclose(locate(uv, points), whole, atol=1e-6)


def test_no_position_lies_on_a_jump():
    uv = np.zeros((4, 10, 2), np.float32)
    uv[..., 0] = np.where(np.arange(10) < 5, 0.01, 0.61) + 0.02 * np.arange(10)
    uv[..., 1] = 0.5 - 0.02 * np.arange(4)[:, None]
    found = locate(uv, np.array([[0.4, 0.47], [0.05, 0.47], [0.75, 0.47]]))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], [[2.5, 2], [7.5, 2]], atol=1e-4)
    assert locate(uv, np.zeros((0, 2))).shape == (0, 2)
    assert np.isnan(locate(np.full((5, 5, 2), np.nan), [[0.5, 0.5]])).all()


def slow_projection(photo, uv, paint):
    """Pixel by pixel: four samples each, u and v bilinear over the neighbours that there are."""
    out = photo.astype(float)
    height, width = uv.shape[:2]
    for r in range(height):
        for c in range(width):
            samples = []
            for dy, dx in ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)):
                total, weight = np.zeros(2), 0.0
                for ny, wy in ((r, 0.75), (r + (1 if dy > 0 else -1), 0.25)):
                    for nx, wx in ((c, 0.75), (c + (1 if dx > 0 else -1), 0.25)):
                        ny_, nx_ = min(max(ny, 0), height - 1), min(max(nx, 0), width - 1)
                        if np.isfinite(uv[ny_, nx_, 0]):
                            total, weight = total + wy * wx * uv[ny_, nx_], weight + wy * wx
                colour = paint(total / weight) if weight >= 0.5 else None
                samples.append(photo[r, c] if colour is None else colour)
            out[r, c] = np.mean(samples, axis=0)
    return out


def test_texture_projection_against_a_slow_twin():
    uv, _ = affine_map(30, 40)
    photo, texture = photo_like(uv), smooth_texture()

    def paint(point):
        at = np.float32(point * [64, -64] + [-0.5, 63.5]).reshape(1, 1, 2)
        return cv2.remap(texture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0, 0]
    out = project_texture(photo, uv, texture)
    twin = slow_projection(photo, uv, paint)
    inner = np.zeros(uv.shape[:2], bool)
    inner[3:-3, 3:-3] = True            # the face's box may cut a fraction of a pixel at its border
    difference = np.abs(out - twin).max(-1)
    assert difference[inner].max() <= 1.01 and (difference[inner] > 0.51).mean() < 0.01
    far = np.hypot(*(pixels(30, 40) - [20, 15]).transpose(2, 0, 1)) > 14
    np.testing.assert_array_equal(out[far], photo[far])


def test_texture_projection_shows_the_texture():
    """A texture that says its own position comes back as the map."""
    uv, _ = sphere_map()
    out = project_texture(photo_like(uv), uv, smooth_texture(256))
    inner = cv2.erode(np.isfinite(uv[..., 0]).astype(np.uint8), np.ones((7, 7))) > 0
    inner &= np.hypot(*(pixels(96, 96) - 48).transpose(2, 0, 1)) < 38           # the boundary is steep
    np.testing.assert_allclose(out[inner][:, :2] / 255, uv[inner], atol=0.006)
    half = project_texture(photo_like(uv), uv, smooth_texture(256), opacity=0.5)
    mean = (out[inner].astype(float) + photo_like(uv)[inner]) / 2
    np.testing.assert_allclose(half[inner], mean, atol=1.5)


def test_lines_lie_where_u_and_v_are_multiples():
    uv, back = affine_map(disc=False)
    photo = np.zeros((60, 80, 3), np.uint8)
    out = grid_lines(photo, uv, density=8, width=0.2, colour=(0, 0, 255))
    assert not out[..., :2].any()
    fraction = out[..., 2] / 255
    for r, c in np.random.default_rng(4).integers(2, 58, (200, 2)):
        fine = [uv[r, c] + np.array([[0.011, 0.003], [0.002, -0.013]]) @ [dx, dy]
                for dx in (-0.25, 0.25) for dy in (-0.25, 0.25)]
        near = [np.abs(8 * p - np.rint(8 * p)).min() for p in fine]
        if min(abs(d - 0.1) for d in near) > 1e-4:          # not on a line's very edge
            assert fraction[r, c] == pytest.approx(np.mean([d < 0.1 for d in near]), abs=0.005)
    np.testing.assert_allclose(fraction.mean(), 1 - 0.8 ** 2, atol=0.03)           # two families of a fifth each


def test_points_are_drawn_where_they_are():
    uv, back = affine_map(disc=False)
    out = grid_points(np.zeros((60, 80, 3), np.uint8), uv, density=4, radius=1.5).astype(float)[..., 0]
    steps = np.array([0.25, 0.5, 0.75])
    shown = [p for p in back(np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2))
             if 4 < p[0] < 76 and 4 < p[1] < 56]
    assert len(shown) >= 3
    for x, y in shown:
        c, r = int(x), int(y)
        patch, at = out[r - 3:r + 4, c - 3:c + 4], pixels(7, 7) + [c - 3, r - 3]
        centre = (patch[..., None] * at).sum((0, 1)) / patch.sum()
        np.testing.assert_allclose(centre, [x, y], atol=0.05)
        np.testing.assert_allclose(patch.sum() / 255, np.pi * 1.5 ** 2, rtol=0.08)


def slow_unproject(photo, uv, size):
    sums, weights = np.zeros((size, size, 3)), np.zeros((size, size))
    for r, c in np.argwhere(np.isfinite(uv[..., 0])):
        u, v = uv[r, c].astype(float)
        x, y = np.clip(u * size - 0.5, 0, size - 1), np.clip((1 - v) * size - 0.5, 0, size - 1)
        for row in (int(y), int(y) + 1):
            for column in (int(x), int(x) + 1):
                weight = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
                if weight > 0:
                    sums[row, column] += weight * photo[r, c]
                    weights[row, column] += weight
    return np.where(weights[..., None] > 0, sums / np.maximum(weights, 1e-12)[..., None], 0), weights


def test_inverse_projection_against_a_slow_twin():
    uv, _ = affine_map(disc=False)
    uv[5:9, 5:20] = np.nan
    photo = photo_like(uv)
    texture, weights = unproject(photo, uv, 32)
    colours, twin = slow_unproject(photo, uv, 32)
    np.testing.assert_allclose(weights, twin, atol=1e-4)
    np.testing.assert_allclose(texture, colours, atol=0.51)
    np.testing.assert_allclose(weights.sum(), np.isfinite(uv[..., 0]).sum(), rtol=1e-6)     # nothing is lost


def test_inverse_projection_undoes_the_projection():
    uv, _ = sphere_map(200)
    texture = cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 4)
    again, weights = unproject(project_texture(np.zeros((200, 200, 3), np.uint8), uv, texture), uv, 64)
    inner = np.s_[16:48, 16:48]
    assert weights[inner].min() > 0.5
    np.testing.assert_allclose(again[inner].astype(float), texture[inner], atol=4)


def test_a_video_is_a_running_mean():
    uv, _ = sphere_map(48)
    frames = [photo_like(uv, seed) for seed in range(3)]
    mean = TextureMean(16)
    for frame in frames:
        mean.add(frame, uv)
    single = [unproject(frame, uv, 16) for frame in frames]
    texture, weights = mean.texture()
    np.testing.assert_allclose(weights, sum(s.weights for s in single), rtol=1e-5)
    np.testing.assert_allclose(texture, np.mean([s.texture.astype(float) for s in single], axis=0), atol=1.01)
    mean.add(frames[0], np.full_like(uv, np.nan))           # a frame without a face changes nothing
    np.testing.assert_array_equal(mean.texture().texture, texture)
    assert mean.frames == 4
    with pytest.raises(ValueError, match="size must be within 2 and 8192 texels, got 1"):
        TextureMean(1)


def test_lifting_undoes_the_crop():
    uv, _ = affine_map(120, 160, disc=False)
    uv /= 2
    for box in ((30, 20, 64, 64), (30, 20, 40, 52), (130, 90, 64, 64), (-20, -10, 96, 96)):
        x, y, w, h = box
        centres = pixels(32, 32) * [w / 32, h / 32] + [x, y]        # of the crop's pixels, in the photo
        crop = ((centres @ [[0.011, 0.002], [0.003, -0.013]] + [0.02, 0.85]) / 2).astype(np.float32)
        whole = lift(crop, box, uv.shape)
        inside = np.zeros(uv.shape[:2], bool)
        inside[max(y, 0):y + h, max(x, 0):x + w] = True
        np.testing.assert_array_equal(np.isfinite(whole[..., 0]), inside)
        inner = inside & (np.abs(pixels(120, 160) - [x + w / 2, y + h / 2]) < [w / 2 - w / 32, h / 2 - h / 32]).all(-1)
        np.testing.assert_allclose(whole[inner], uv[inner], atol=1e-5)
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    np.testing.assert_array_equal(lift(mask, (1, 0, 8, 8), (8, 10))[0], [0] + [1] * 4 + [0] * 5)


def test_nothing_is_lifted_from_nothing():
    crop = np.full((8, 8, 2), np.nan, np.float32)
    crop[2:6, 2:6] = 0.5
    whole = lift(crop, (0, 0, 16, 16), (16, 16))
    known = np.isfinite(whole[..., 0])
    np.testing.assert_array_equal(known[8], [0] * 4 + [1] * 8 + [0] * 4)
    np.testing.assert_allclose(whole[known], 0.5, rtol=1e-6)
    assert np.isnan(lift(crop, (40, 0, 8, 8), (16, 16))).all()
    for box, image in (((0, 0, 0, 4), crop), ((0, 0, 4, 4), crop[0, 0]), ((0, 0, 10 ** 6, 10 ** 6), crop)):
        with pytest.raises(ValueError, match="lift takes a map"):
            lift(image, box, (16, 16))


def test_no_face_leaves_the_photo_alone():
    uv = np.full((20, 30, 2), np.nan, np.float32)
    photo = photo_like(uv)
    for out in (project_texture(photo, uv, smooth_texture()), grid_lines(photo, uv), grid_points(photo, uv)):
        np.testing.assert_array_equal(out, photo)
        assert out is not photo
    texture, weights = unproject(photo, uv)
    assert texture.shape == (256, 256, 3) and not texture.any() and not weights.any()


def test_where_keeps_what_stands_before_the_face():
    uv, _ = affine_map(disc=False)
    photo, where = photo_like(uv), np.zeros(uv.shape[:2], bool)
    where[:, :40] = True
    for out in (project_texture(photo, uv, smooth_texture(), where), grid_lines(photo, uv, where=where),
                grid_points(photo, uv, where=where)):
        np.testing.assert_array_equal(out[:, 43:], photo[:, 43:])
        assert (out[:, :38] != photo[:, :38]).any()
    np.testing.assert_allclose(unproject(photo, uv, 64, where).weights.sum(), where.sum(), rtol=1e-6)


def test_refused():
    uv, _ = affine_map()
    photo = photo_like(uv)
    for bad in (photo[:-1], photo.astype(np.float32), photo[..., 0]):
        with pytest.raises(ValueError, match="photo, map and mask must be"):
            grid_lines(bad, uv)
    with pytest.raises(ValueError, match="texture must be"):
        project_texture(photo, uv, photo[..., 0])
    for view in (grid_lines, grid_points):
        with pytest.raises(ValueError, match="density must be within 1 and 1024, got 0"):
            view(photo, uv, 0)
    with pytest.raises(ValueError, match="locate takes a map"):
        locate(uv, np.zeros(2))
