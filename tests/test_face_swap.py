"""Evaluation/views/face_swap.py: photos made from known textures, so that what a swap must show is known."""
import cv2
import numpy as np
import pytest

from Evaluation.views.face_swap import Face, completed, matched, swap_face
from Evaluation.views.uv import Unprojected
from Evaluation.views.uv_photos import Maps, ViewWriter
from Network.inference.readings import Maps as UVMaps

SIZE = 96


def uv_map(centre: tuple[float, float], radius: float, turn: float = 0.0) -> np.ndarray:
    """A disc that shows the whole atlas, turned; NaN outside."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5 - np.array(centre)[:, None, None]) / radius
    c, s = np.cos(turn), np.sin(turn)
    uv = np.stack([c * x + s * y, -(c * y - s * x)], -1) * 0.45 + 0.5
    uv[np.hypot(x, y) > 1] = np.nan
    return uv.astype(np.float32)


def skin(uv: np.ndarray, seed: int) -> np.ndarray:
    """A smooth texture at UV positions, (..., 3) in [40, 215]: each seed another one."""
    a, b, c = np.random.default_rng(seed).uniform(2, 5, (3, 3))
    u, v = uv[..., :1], uv[..., 1:]
    return 127.5 + 87.5 * np.sin(a * u + b * v + c)


def face(seed: int, uv: np.ndarray, where: np.ndarray | None = None) -> Face:
    """A photo of a face with that texture before blocks of its own."""
    photo = np.random.default_rng([seed, 1]).integers(0, 256, (SIZE // 8, SIZE // 8, 3)).repeat(8, 0).repeat(8, 1)
    shown = np.isfinite(uv[..., 0])
    photo[shown] = np.rint(skin(uv[shown], seed))
    return Face(photo.astype(np.uint8), uv, where)


FIRST, SECOND = uv_map((50, 44), 38), uv_map((44, 52), 34, 0.5)


def inner(shown: np.ndarray, by: float) -> np.ndarray:
    return cv2.distanceTransform(shown.astype(np.uint8), cv2.DIST_L2, 5) > by


def test_the_firsts_texture_at_the_seconds_positions():
    one, other = face(1, FIRST), face(2, SECOND)
    swapped = swap_face(one, other, colours="none")
    shown = np.isfinite(SECOND[..., 0])
    np.testing.assert_array_equal(swapped[~shown], other.photo[~shown])
    core = inner(shown, 5)
    np.testing.assert_allclose(swapped[core], skin(SECOND[core], 1), atol=4)
    assert np.abs(swapped[core] - skin(SECOND[core], 2)).mean() > 20
    boundary = shown & ~inner(shown, 1.5)                     # the second's own colours
    second, first = (np.abs(swapped[boundary] - skin(SECOND[boundary], number)).mean() for number in (2, 1))
    assert second < 0.6 * first


@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_a_face_in_its_own_photo_stays(blend):
    one = face(3, FIRST)
    away = swap_face(one, one, blend=blend).astype(int) - one.photo
    assert np.abs(away).max() <= 8 and np.abs(away).mean() < 1


def test_what_stands_before_the_face_stays():
    where = np.isfinite(SECOND[..., 0])
    where[:, 40:50] = False                             # a bar
    one, other = face(1, FIRST), face(2, SECOND, where)
    for blend in ("feather", "poisson"):
        swapped = swap_face(one, other, blend=blend)
        np.testing.assert_array_equal(swapped[~where], other.photo[~where])
        assert np.abs(swapped[where].astype(int) - other.photo[where]).mean() > 10


def test_colours_become_the_seconds():
    """A first face that is darker and yellower but the same: Lab brings it back."""
    one, other = face(4, FIRST), face(4, SECOND)
    lab = cv2.cvtColor(one.photo.astype(np.float32) / 255, cv2.COLOR_BGR2LAB) * [0.7, 1, 1] + [5, 0, 15]
    tinted = one._replace(photo=np.rint(255 * cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2BGR)).clip(0, 255)
                          .astype(np.uint8))
    core = inner(np.isfinite(SECOND[..., 0]), 4)
    plain, brought = (swap_face(tinted, other, colours=c)[core].astype(float) for c in ("none", "lab"))
    assert np.abs(plain - other.photo[core]).mean() > 15 and np.abs(brought - other.photo[core]).mean() < 5


def test_poisson_takes_the_level_of_the_second():
    """A constant offset has no gradient: nothing is left of it."""
    other = face(5, FIRST)
    brighter = other._replace(photo=(other.photo * (0.9 * np.isfinite(FIRST[..., :1])) + 20).astype(np.uint8))
    swapped = swap_face(brighter, other, colours="none", blend="poisson")
    core = inner(np.isfinite(FIRST[..., 0]), 3)
    wanted = 0.9 * other.photo[core] + 0.1 * other.photo[core].mean(0)
    assert np.abs(swapped[core] - wanted).mean() < 8 < np.abs(0.9 * other.photo[core] + 20 - wanted).mean()


def test_the_hidden_half_is_the_other_ones_mirror_image():
    n = 64
    u, v = np.meshgrid((np.arange(n) + 0.5) / n, 1 - (np.arange(n) + 0.5) / n)
    even = np.rint(skin(np.stack([np.abs(u - 0.5), v], -1), 6)).astype(np.uint8)        # left and right alike
    left = (u < 0.6).astype(np.float32)
    left[1::3, 1::3] = 0                                 # gaps between pixels
    seen = Unprojected(even * left[..., None].astype(np.uint8), left)
    np.testing.assert_allclose(completed(seen), even, atol=8)
    assert np.abs(completed(seen).astype(int) - even).mean() < 1
    narrow = Unprojected(even * (np.abs(u - 0.5) < 0.3)[..., None].astype(np.uint8), (np.abs(u - 0.5) < 0.3) * 1.0)
    whole = completed(narrow)                           # what neither half shows goes on from the nearest
    np.testing.assert_allclose(whole[:, 5], even[:, 13], atol=40)
    np.testing.assert_array_equal(completed(Unprojected(even, np.ones((n, n)))), even)


def test_colours_are_compared_where_both_show_the_point():
    """The second shows the left half only, which is as dark in the first: the first's light half does not count."""
    n = 32
    texture = np.zeros((n, n, 3), np.uint8) + np.where(np.arange(n) < 16, 60, 200)[None, :, None].astype(np.uint8)
    texture[::2] += 10
    half = np.repeat((np.arange(n) < 16)[None], n, 0).astype(np.float32)
    same = matched(texture, Unprojected(texture, np.ones((n, n), np.float32)), Unprojected(texture, half))
    np.testing.assert_allclose(same.astype(int), texture, atol=2)


def test_refusals():
    one, nothing = face(1, FIRST), face(2, np.full_like(SECOND, np.nan))
    for pair, which in (((nothing, one), "first"), ((one, nothing), "second")):
        with pytest.raises(ValueError, match=f"no face in the {which} photo"):
            swap_face(*pair)
    with pytest.raises(ValueError, match="blend must be one of feather, poisson, got 'hard'"):
        swap_face(one, one, blend="hard")
    with pytest.raises(ValueError, match="colours must be one of lab, none, got 'rgb'"):
        swap_face(one, one, colours="rgb")
    with pytest.raises(ValueError, match="photo, map and mask must be"):
        swap_face(one, one._replace(uv=SECOND[:-1]))


def test_as_a_view(tmp_path):
    def maps(uv) -> Maps:
        mask = np.isfinite(uv[..., 0])
        return UVMaps(uv, mask, mask, None)
    viewer, (one, other) = ViewWriter("swap"), (face(1, FIRST), face(2, SECOND))
    np.testing.assert_array_equal(viewer.draw(one.photo, maps(FIRST)), one.photo)
    with pytest.raises(ValueError, match="--view swap .* name two photos, or one of two subjects with --faces all"):
        viewer.write(tmp_path / "a.ply")
    np.testing.assert_array_equal(viewer.draw(other.photo, maps(SECOND)),
                                  swap_face(one._replace(where=np.isfinite(FIRST[..., 0])),
                                            other._replace(where=np.isfinite(SECOND[..., 0]))))
    path = viewer.write(tmp_path / "a.ply")
    assert path.name == "a_swap.png" and (cv2.imread(str(path)) == viewer.image).all()
    viewer.reset()
    viewer.draw(one.photo, maps(FIRST))
    assert viewer.image is None
