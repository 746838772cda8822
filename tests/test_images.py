"""Dataset/io/images.py: every kind of photo is read, every kind of bad file is refused with one line."""
import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from Dataset.io.images import (MAX_SCANS, as_photo, crop, crop_resize, decode_image, image_header, image_size, minmax,
                               read_image, write_image)
from tests.memory import clear_peak, peak


@pytest.fixture
def image():
    """(30, 40, 3) uint8 BGR: smooth, so that JPEG keeps it, and different in every corner."""
    y, x = np.mgrid[:30, :40]
    return np.stack([5 * x, 8 * y, 200 - 3 * x - 2 * y], axis=-1).astype(np.uint8)


def test_bgr_as_opencv_reads_it(tmp_path, image):
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"):
        assert cv2.imwrite(str(tmp_path / name), image)
        assert np.array_equal(read_image(tmp_path / name), cv2.imread(str(tmp_path / name))), name
    assert np.array_equal(read_image(tmp_path / "a.png"), image)


def test_grey_becomes_three_equal_channels(tmp_path, image):
    cv2.imwrite(str(tmp_path / "g.png"), image[:, :, 0])
    assert np.array_equal(read_image(tmp_path / "g.png"), np.repeat(image[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_divided_by_256(tmp_path, image, channels):
    deep = image.astype(np.uint16) * 256 + 255
    cv2.imwrite(str(tmp_path / "d.png"), deep if channels == 3 else deep[:, :, 0])
    assert np.array_equal(read_image(tmp_path / "d.png"), image if channels == 3 else image[:, :, [0, 0, 0]])


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)            # hidden black, half black, full blue
    rgba[0, :, 3] = 0, 128, 255
    rgba[0, 2, :3] = 255, 0, 0
    cv2.imwrite(str(tmp_path / "t.png"), rgba)
    assert read_image(tmp_path / "t.png").tolist() == [[[255] * 3, [127] * 3, [255, 0, 0]]]
    Image.fromarray(np.array([[[9, 255]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png").tolist() == [[[9, 9, 9]]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_image(tmp_path / "p.png").tolist() == [[[255] * 3, [60, 50, 40]]]


@pytest.mark.parametrize("orientation, turn", [
    (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, lambda a: np.rot90(a)), (2, lambda a: a[:, ::-1]),
    (4, lambda a: a[::-1]), (5, lambda a: np.swapaxes(a, 0, 1)), (7, lambda a: np.rot90(np.swapaxes(a, 0, 1), 2))])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_exif_orientation_is_applied(tmp_path, image, orientation, turn, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = tmp_path / ("e.png" if mode == "RGBA" else "e.jpg")
    Image.fromarray(image[:, :, ::-1].copy()).convert(mode).save(name, exif=exif, quality=100, subsampling=0)
    error = read_image(name).astype(int) - turn(image)
    assert np.abs(error).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_is_turned_alike(tmp_path, image, kind, orientation):
    """As Pillow's own transposition, whoever decodes the pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, rgb = io.BytesIO(), Image.fromarray(image[:, :, ::-1].copy())
    extra = {"TIFF": {}, "WEBP": {"lossless": True}}.get(kind, {"quality": 100})
    rgb.save(data, kind, exif=exif, **extra)
    stored = Image.open(io.BytesIO(data.getvalue()))
    wanted = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))[..., ::-1]
    assert wanted.shape[:2] == ((40, 30) if orientation > 4 else (30, 40))
    assert np.abs(decode_image(data.getvalue()).astype(int) - wanted).max() <= 4


def test_a_transparent_grey_of_16_bits_is_white_and_the_others_stay(tmp_path):
    grey = np.array([[0, 1000, 30000, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "g.png", transparency=1000)
    assert read_image(tmp_path / "g.png")[0].tolist() == [[0] * 3, [255] * 3, [117] * 3, [255] * 3]


@pytest.mark.parametrize("brand, name", [(b"heic", "HEIC"), (b"mif1", "HEIF")])
def test_what_a_phone_writes_is_called_by_its_name(brand, name):
    with pytest.raises(ValueError, match=f"^me.heic: is {name}, which cannot be read here: save it as JPEG or PNG"):
        decode_image(b"\0\0\0\x18ftyp" + brand + b"\0" * 40, "me.heic")


def test_a_40_megapixel_photo_is_read(tmp_path):
    cv2.imwrite(str(tmp_path / "big.jpg"), np.full((5480, 7300, 3), 77, np.uint8))
    image = read_image(tmp_path / "big.jpg")
    assert image.shape == (5480, 7300, 3) and image[0, 0].tolist() == [77] * 3


@pytest.mark.parametrize("kind, mode, size, most", [("PNG", "RGBA", (6000, 4000), 260),
                                                    ("JPEG", "RGB", (8160, 6144), 80)])
def test_a_large_photo_is_decoded_in_little_memory(kind, mode, size, most):
    """24 megapixels of four bytes, a copy of three, and some rows; 50 megapixels at a half of their size."""
    data = io.BytesIO()
    Image.new(mode, size, (128,) * len(mode)).save(data, kind, compress_level=1)
    before = clear_peak()
    image = decode_image(data.getvalue(), side=2048)
    assert peak() - before < most * 2**20
    assert max(image.shape[:2]) == 2048 and image.shape[2] == 3
    assert np.unique(image).tolist() == ([191] if mode == "RGBA" else [128])


@pytest.mark.parametrize("part", [1, 2, 4, 8])
def test_a_jpeg_is_reduced_as_it_is_decoded(image, part):
    """And then averaged: close to the whole image averaged at once."""
    large = cv2.resize(image, (40 * 17, 30 * 17), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(large[:, :, ::-1]).save(data, "JPEG", quality=98, exif=exif)
    side = 680 // part - 3
    reduced = decode_image(data.getvalue(), side=side)
    assert reduced.shape[0] == side and abs(reduced.shape[1] - 510 * side / 680) < 1.5
    expected = cv2.resize(np.rot90(large, -1), reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - expected).mean() < 2
    assert decode_image(data.getvalue(), side=680).shape == (680, 510, 3)
    with pytest.raises(ValueError, match="cut off or broken"):
        decode_image(data.getvalue()[:-2000], side=side)


def test_a_jpeg_of_many_scans_is_refused_unread():
    """Each costs a pass over all pixels, and few bytes."""
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 99, 199)).save(data, "JPEG", progressive=True)
    whole = data.getvalue()
    last = whole.rindex(b"\xff\xda")
    few, many = (whole[:last] + whole[last:-2] * times + whole[-2:] for times in (20, MAX_SCANS))
    assert decode_image(few).shape == (48, 64, 3)
    with pytest.raises(ValueError, match="x.jpg: the image is broken, or in more parts than any photo"):
        decode_image(many, "x.jpg")
    assert decode_image(whole + b"\xff\xda\0\2" * 100).shape == (48, 64, 3)       # what stands behind its end is none


def test_an_image_of_many_parts_is_refused_unread(monkeypatch):
    """Pillow reads each of them in Python, with everybody else's lock."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 48)).save(jpeg, "JPEG")
    Image.new("RGB", (64, 48)).save(png, "PNG")
    start, rest = jpeg.getvalue()[:2], jpeg.getvalue()[2:]
    chunk = b"\0\0\0\0zzZz" + struct.pack(">I", zlib.crc32(b"zzZz"))

    def small_png(count):
        return png.getvalue()[:33] + chunk * count + png.getvalue()[33:]
    for data in (start + b"\xff\xfe\0\2" * 100 + rest, start + b"\xff" * 100 + rest, small_png(100)):
        assert decode_image(data).shape == (48, 64, 3)
    monkeypatch.setattr("PIL.Image.open", None)
    for data in (start + b"\xff\xfe\0\2" * 5000 + rest, start + b"\xff" * 10**5 + rest, start + bytes(10**5) + rest,
                 start + bytes(10**5), start + b"\xff" * 10**5, start + b"\xff\xe0\0\0" * 10**4, small_png(5000)):
        with pytest.raises(ValueError, match="x: the image is broken, or in more parts than any photo"):
            decode_image(data, "x")


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size, received", [((9000, 9000), "9000x9000 = 81.0"), ((10**6, 10**6), "several times more")])
def test_size_is_bounded_before_decoding(size, received):
    with pytest.raises(ValueError, match=f"b.png: an image may have at most 64 megapixels, this has .*{received}"):
        decode_image(png_header(*size), "b.png")


def test_bound_is_an_argument(tmp_path, image):
    write_image(tmp_path / "a.png", image)
    assert read_image(tmp_path / "a.png", max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(ValueError, match="at most 0.001199 megapixels, this has 40x30"):
        read_image(tmp_path / "a.png", max_pixels=1199)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.97])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, ending, fraction):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(ending, noise)[1].tobytes()
    path = tmp_path / f"cut{ending}"
    path.write_bytes(data[:int(fraction * len(data))])
    with pytest.raises(ValueError, match=f"cut{ending}: "):
        read_image(path)


def test_other_bad_files_are_named(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    for name, rule in (("empty.jpg", "is empty"), ("text.jpg", "must be an image"), ("none.jpg", "no such file"),
                       (".", "is a folder")):
        with pytest.raises(ValueError, match=rule) as error:
            read_image(tmp_path / name)
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_the_formats_of_photos_are_read(tmp_path, kind):
    data = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 40, 10)).save(data, kind)
    (tmp_path / "photo.jpg").write_bytes(data.getvalue())
    found = read_image(tmp_path / "photo.jpg")
    assert found.shape == (16, 24, 3) and np.abs(found.mean((0, 1)) - (10, 40, 200)).max() < 6
    assert image_size(tmp_path / "photo.jpg") == (24, 16)


@pytest.mark.parametrize("kind", ["EPS", "DDS", "PPM", "TGA", "PCX", "ICO", "SGI", "PDF"])
def test_no_other_format_is_opened(tmp_path, monkeypatch, kind):
    """Whatever its ending says. An EPS would start Ghostscript."""
    data = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 40, 10)).save(data, kind)
    (tmp_path / "photo.jpg").write_bytes(data.getvalue())
    monkeypatch.setattr("subprocess.Popen", None)
    with pytest.raises(ValueError, match="photo.jpg: must be an image .JPEG, .*none of these or is broken"):
        read_image(tmp_path / "photo.jpg")
    with pytest.raises(ValueError, match="photo.jpg"):
        image_size(tmp_path / "photo.jpg")


def test_image_size_reads_the_header_only(tmp_path, image):
    write_image(tmp_path / "a.jpg", image)
    assert image_size(tmp_path / "a.jpg") == (40, 30)
    (tmp_path / "b.png").write_bytes(png_header(9000, 8000))
    assert image_size(tmp_path / "b.png") == (9000, 8000)
    with pytest.raises(ValueError, match="c.jpg: must be an image"):
        image_size(tmp_path / "c.jpg")
    (tmp_path / "d.png").write_bytes(png_header(10000, 9000))           # 90 megapixels: Pillow warns when it opens them
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(tmp_path / "d.png") == (10000, 9000)


def test_write_refuses_what_no_image_is(tmp_path, image):
    for name, array, rule in (("a.jpg", image.astype(float), "uint8"), ("a.jpg", image[:, :, :2], "uint8"),
                              ("a.xyz", image, "ending '.xyz'")):
        with pytest.raises(ValueError, match=rule):
            write_image(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


def test_crop_repeats_the_border():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert crop(image, (1, 1, 2, 2)).tolist() == [[5, 6], [9, 10]]
    assert crop(image, (-1, -1, 3, 2)).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert crop(image, (3, 2, 2, 2)).tolist() == [[11, 11], [11, 11]]
    for box in ((4, 0, 2, 2), (0, 0, 0, 3), (-5, 0, 5, 2)):
        with pytest.raises(ValueError, match="must have a size and meet the image of 4x3"):
            crop(image, box)


def test_crop_is_a_copy(image):
    before = image.copy()
    crop(image, (0, 0, 5, 5))[:] = 0
    assert np.array_equal(image, before)


def test_crop_resize_is_the_thesis_s_plain_resize(image):
    cut = image[2:22, 3:23]
    assert np.array_equal(crop_resize(image, (3, 2, 20, 20), 8), cv2.resize(cut, (8, 8)))
    area = crop_resize(image, (3, 2, 20, 20), 5, "area")
    assert np.array_equal(area, np.rint(cut.reshape(5, 4, 5, 4, 3).mean(axis=(1, 3))).astype(np.uint8))
    assert np.array_equal(crop_resize(image, (3, 2, 20, 20), 64, "area"), cv2.resize(cut, (64, 64)))
    with pytest.raises(ValueError, match="'linear' or 'area', got 'cubic'"):
        crop_resize(image, (3, 2, 20, 20), 8, "cubic")
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        crop_resize(image, (3, 2, 20, 20), 0)


def test_minmax_stretches_over_all_channels():
    image = np.array([[[10, 20, 30], [40, 50, 110]]], np.uint8)
    stretched = minmax(image)
    assert stretched.dtype == np.float32
    assert np.allclose(stretched, [[[0, 0.1, 0.2], [0.3, 0.4, 1]]], atol=1e-7)
    assert minmax(np.full((2, 2, 3), 9, np.uint8)).tolist() == np.zeros((2, 2, 3)).tolist()
    published = np.zeros((1, 2, 3), np.float32)
    cv2.normalize(image.astype(np.float32), published, 0, 1, cv2.NORM_MINMAX)
    assert np.array_equal(stretched, published)


def test_arrays_of_callers_become_photos():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for one in (grey, grey[..., None], (grey / 255).astype(np.float32), grey[..., None] / 255.0):
        photo = as_photo(one)
        assert photo.shape == (3, 4, 3) and photo.dtype == np.uint8 and photo.flags.c_contiguous
        np.testing.assert_array_equal(photo, np.repeat(grey[..., None], 3, axis=2))
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    np.testing.assert_array_equal(as_photo(colours), colours)


@pytest.mark.parametrize("image, received", [
    (None, "NoneType"), ("x", "str"), ([[1]], "list"), (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    (np.zeros((3, 4, 4), np.uint8), r"shape \(3, 4, 4\)"), (np.zeros((3, 4), np.uint16), "uint16"),
    (np.zeros((3, 4), bool), "bool"), (np.full((3, 4), np.nan), "floats from nan to nan"),
    (np.array([[0.0, 255.0]]), "floats from 0 to 255"), (np.array([[-0.1, 1.0]]), "floats from -0.1 to 1"),
    (np.array(["x"]), "<U1"), (np.zeros((2, 3, 4, 3), np.uint8), r"shape \(2, 3, 4, 3\)")])
def test_other_arrays_are_refused_with_the_rule(image, received):
    with pytest.raises(ValueError, match=f"^me: an image must be .* floats from 0 to 1, received {received}$"):
        as_photo(image, "me")
    with pytest.raises(ValueError, match="me: an image may have at most 1e-05 megapixels, this has 4x3"):
        as_photo(np.zeros((3, 4), np.uint8), "me", 10)


@pytest.mark.parametrize("kind, name", [("JPEG2000", "JPEG 2000"), ("WEBP", "WebP"), ("AVIF", "AVIF"), ("PNG", "")])
def test_formats_that_take_much_memory_have_fewer_pixels(monkeypatch, kind, name):
    """A file of 1 kB, of 62 megapixels, took 1.4 GB: what its decoder needs for a pixel decides."""
    header = type("Header", (), {"size": (6400, 6251), "format": kind})
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: header)
    if not name:
        assert image_header(b"x", "x").size == header.size
        return
    with pytest.raises(ValueError, match=f"^x: an image in {name} may have at most 40 megapixels, this has 6400x6251"):
        image_header(b"x", "x")
    with pytest.raises(ValueError, match="^x: an image may have at most 25 megapixels"):
        image_header(b"x", "x", 25e6)
    header.size = (6400, 6250)
    assert image_header(b"x", "x").size == header.size


def test_floats_become_a_photo_without_whole_copies():
    image = np.full((1000, 3000, 3), 0.25)
    image[-1, -1] = 1, 0.5, 0
    as_photo(image[:2, :2])
    before = clear_peak()
    photo = as_photo(image)
    assert peak() - before < 75 << 20       # 9 MB, and a part of two megapixels as float32, some twice
    assert photo[0, 0].tolist() == [64] * 3 and photo[-1, -1].tolist() == [255, 128, 0]
    np.testing.assert_array_equal(photo, np.rint(image.astype(np.float32) * 255))
