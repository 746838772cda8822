"""Network/tiling.py: fake networks whose right answer is known tile by tile."""
import numpy as np
import pytest

from Network.tiling import MOST_TILES, OVERLAP, boxes, scales_for, stitch, tiles, wholeness
from Network.uvnet import read_maps

SIZE, SHAPE = 32, (150, 200)
FACES = ((40.0, 45.0, 12.0), (135.0, 80.0, 55.0))      # x, y, radius, px
SCALES = scales_for(SHAPE, SIZE, 24)


def truth(x: np.ndarray, y: np.ndarray, faces=FACES) -> np.ndarray:
    """What a perfect network says at places of the photo: (..., 4); nothing stands before the lower half of a face."""
    maps = np.zeros((*np.shape(x), 4))
    for cx, cy, radius in faces:
        inside = np.hypot(x - cx, y - cy) < radius
        maps[inside] = np.stack([0.5 + 0.5 * (x - cx) / radius, 0.5 - 0.5 * (y - cy) / radius,
                                 np.ones_like(x), y > cy], -1)[inside]
    return maps


PHOTO = truth(*np.meshgrid(np.arange(SHAPE[1]) + 0.5, np.arange(SHAPE[0]) + 0.5))


class Fake:
    """Answers tile by tile, in the order in which `tiles` lists them. It knows faces that fill between `low` and `high`
    of a tile, and nothing of others."""

    def __init__(self, scales=SCALES, overlap=OVERLAP, low=0.35, high=0.95, faces=FACES, channels=4):
        self.waiting = iter(tiles(SHAPE, SIZE, scales, overlap))
        self.low, self.high, self.faces, self.channels, self.largest = low, high, faces, channels, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (SIZE, SIZE, 3) and images.dtype == np.float32 and images.max() <= 1 + 1e-6
        self.largest = max(self.largest, len(images))
        return np.stack([self.answer(*next(self.waiting)) for _ in images])

    def answer(self, box, scale) -> np.ndarray:
        left, top, side, _ = box
        x, y = np.meshgrid(*[start + (np.arange(SIZE) + 0.5) * side / SIZE for start in (left, top)])
        known = [f for f in self.faces if self.low < 2 * f[2] / side < self.high]
        return np.concatenate([truth(x, y, known), np.zeros((SIZE, SIZE, self.channels - 4))], -1)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)


def overlap_of(found: np.ndarray, true: np.ndarray) -> float:
    return (found & true).sum() / (found | true).sum()


def test_faces_of_all_sizes_are_found():
    fake = Fake()
    output = stitch(noise(), fake, SIZE, SCALES)
    assert output.shape == (*SHAPE, 4) and output.dtype == np.float32 and fake.largest <= 16
    assert next(fake.waiting, None) is None             # every tile was asked for once
    maps, known = read_maps(output), PHOTO[..., 2] > 0
    assert overlap_of(maps.mask, known) > 0.93 and overlap_of(maps.occluded, PHOTO[..., 3] > 0) > 0.9
    both = maps.mask & known
    for cx, cy, radius in FACES:
        one = both & (np.hypot(np.arange(SHAPE[1]) + 0.5 - cx, np.arange(SHAPE[0])[:, None] + 0.5 - cy) < radius - 3)
        assert one.any() and np.abs(maps.uv[one] - PHOTO[one][:, :2]).max() < 0.08
    for scale, found in ((SCALES[0], [True, False]), (SCALES[-1], [False, True])):      # one scale finds one of them
        mask = read_maps(stitch(noise(), Fake((scale,)), SIZE, (scale,))).mask
        assert [bool(mask[int(y), int(x)]) for x, y, _ in FACES] == found


def test_a_photo_of_a_tiles_size_is_one_tile():
    """512 px or 32, what a perfect network says of one tile is what comes back."""
    face = (90.0, 75.0, 50.0)
    scale = SIZE / SHAPE[0]
    fake = Fake((scale,), 0.0, faces=(face,))
    output = stitch(noise(), fake, SIZE, (scale,), overlap=0.0)
    wanted = truth(*np.meshgrid(np.arange(200) + 0.5, np.arange(150) + 0.5), (face,))
    inner = np.hypot(np.arange(200) + 0.5 - 90, np.arange(150)[:, None] + 0.5 - 75) < 42
    np.testing.assert_allclose(output[inner][:, :2], wanted[inner][:, :2], atol=0.03)


class Careless(Fake):
    """Wrong by 0.4 in every other tile, and says so where `honest`."""

    honest, number = True, 0

    def answer(self, box, scale):
        output = super().answer(box, scale)
        self.number += 1
        wrong = self.number % 2 == 0
        output[..., :2] += 0.4 * wrong
        output[..., 4:] = -2.0 if wrong and self.honest else -12.0
        return output


def test_confidence_decides_where_tiles_disagree():
    known = np.hypot(np.arange(SHAPE[1]) - 135, np.arange(SHAPE[0])[:, None] - 80) < 45
    errors = {}
    for honest in (True, False):
        fake = Careless(channels=6)
        fake.honest = honest
        output = stitch(noise(), fake, SIZE, SCALES)
        errors[honest] = np.abs(output[known][:, :2] - PHOTO[known][:, :2]).mean()
        assert output.shape[-1] == 6
    assert errors[True] < 0.02 < 0.1 < errors[False]
    assert (output[known][:, 4:] < -11.9).all()


@pytest.mark.parametrize("channels", [5, 6, 7])
def test_more_channels_at_a_scale_above_1(channels):
    """Where the photo is enlarged, tiles are made smaller again."""
    scales, face = (2.0,), (40.0, 45.0, 5.0)
    maps = stitch(noise(), Fake(scales, faces=(face,), low=0.1, channels=channels), SIZE, scales)
    assert maps.shape == (*SHAPE, channels) and not maps[..., 4:].any()
    wanted = truth(*np.meshgrid(np.arange(200) + 0.5, np.arange(150) + 0.5), (face,))
    assert overlap_of(read_maps(maps).mask, wanted[..., 2] > 0) > 0.8


def test_a_face_that_is_cut_off_counts_little():
    mask = np.zeros((40, 40))
    assert wholeness(mask) == 0
    mask[10:30, 10:30] = 1
    assert wholeness(mask) == 1
    mask[:] = 0
    mask[:20, 10:30] = 1                                # 20 of 76 px of outline on the border
    assert wholeness(mask) == 0.02 and wholeness(mask, (False, True, True, True)) == 1
    assert wholeness(np.ones((40, 40))) == 0.02
    mask[:] = 0
    mask[0, :4], mask[1:12, :20] = 1, 1
    assert 0.02 < wholeness(mask, (True, True, False, True)) < 1


def test_no_face_no_mask():
    output = stitch(noise(), Fake(faces=()), SIZE, SCALES)
    assert not output.any() and not read_maps(output).mask.any()
    unknown = stitch(noise(), lambda images: np.full((*images.shape[:3], 4), np.nan), SIZE, (0.3,))
    assert not unknown.any()


def test_tiles_cover_the_photo_and_overlap():
    for overlap in (0.0, 0.5, 0.75):
        seen, rows = np.zeros(SHAPE, int), {}
        for box, scale in tiles(SHAPE, SIZE, (0.5,), overlap):
            x, y, w, h = box
            assert w == h == 64 and x >= 0 and y >= 0 and x + w <= 200 and y + h <= 150
            seen[y:y + h, x:x + w] += 1
            rows.setdefault(y, []).append(x)
        assert seen.min() >= 1
        for xs in rows.values():
            assert (np.diff(xs) <= 64 * (1 - overlap) + 1).all()
    (box, _), = tiles((10, 20), SIZE, (1.0,))           # a photo smaller than a tile lies in its middle
    assert box == (-6, -11, 32, 32)


def test_scales():
    found = scales_for((512, 700), 128, 40)
    np.testing.assert_allclose(found[0], 0.6 * 128 / 40)
    np.testing.assert_allclose(found[-1], 0.6 * 128 / 512)
    np.testing.assert_allclose(np.divide(found[:-1], found[1:]), np.sqrt(2), rtol=0.06)
    assert scales_for((20, 30), 128, 40) == (0.6 * 128 / 40,)


def test_boxes():
    mask = np.zeros((100, 120), bool)
    mask[10:50, 20:50], mask[60:90, 60:90], mask[0:5, 0:5], mask[95, 5:100] = True, True, True, True
    assert boxes(mask) == [(15, 10, 40, 40), (60, 60, 30, 30)]
    assert boxes(np.zeros((9, 9), bool)) == []


@pytest.mark.parametrize("arguments, message", [
    ((np.zeros((0, 4, 3), np.uint8),), "photo must be"), ((np.zeros((4, 4, 3), np.float32),), "photo must be"),
    ((noise(), None, (0.0,)), "scales within 0 to 64"), ((noise(), None, ()), "scales within"),
    ((noise(), None, (1.0,), 0.95), "overlap within 0 to 0.9"),
    ((noise(), None, (60.0,)), f"more than {MOST_TILES} tiles"),
    ((noise(), lambda images: np.zeros((len(images), 8, 8, 4)), (1.0,)), "predict must give")])
def test_refusals(arguments, message):
    photo, predict, *rest = (*arguments, None)[:2] + arguments[2:]
    with pytest.raises(ValueError, match=message):
        stitch(photo, predict, SIZE, *rest)
