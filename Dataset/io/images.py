"""Images: read and write them safely, cut crops out of them.

Pixels are decoded by OpenCV, as in the thesis, so that a crop is the same here and in a port of its listing.
Pillow (which matplotlib brings along) reads the header first: the size is bounded before a pixel is decoded,
and it decodes the images that have an alpha channel.
"""
from __future__ import annotations

import io
import os
import re
import threading
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal, Sequence

import cv2
import numpy as np
from PIL import Image

from Dataset.io.archives.regular import check_regular
from Dataset.io.atomic import write_atomic

MAX_PIXELS = 64_000_000         # a 40-megapixel photo passes; a decompression bomb does not
#: fewer of the formats whose decoders need 16 to 23 bytes a pixel: 40 megapixels take up to 0.9 GB
MOST_OF = {"JPEG2000": 40_000_000, "WEBP": 40_000_000, "AVIF": 40_000_000}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".gif", ".jp2")
COMPANION = "._"                # macOS writes ._NAME beside NAME on foreign disks: no image, whatever its ending
#: Pillow's names of the formats that are read. It knows many more: of some the mere opening starts another program
#: (EPS: Ghostscript). JPEG has phones' MPO, too
FORMATS = ("JPEG", "JPEG2000", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
_WRITTEN = {"JPEG2000": "JPEG 2000", "WEBP": "WebP"}
SCALINGS = ("unit", "minmax")
Box = tuple[int, int, int, int]         # (x, y, w, h) in pixels: top left corner and size

# The last bytes of a whole file. Where they are missing Pillow decodes the file as well, because OpenCV paints
# the missing half of a cut-off JPEG grey and calls it read.
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 64
# A progressive JPEG has about ten scans. Each costs a pass over all pixels, but as few as 100 bytes: a file of 1 MB
# could keep a processor busy for hours.
MAX_SCANS = 64
MAX_PARTS, MAX_JUNK = 4096, 2**16       # segments or chunks in front of the pixels, and bytes between them
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")      # behind compressed data; 00 and D0-D7 belong to them
_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))
_ORIENTATION = 0x0112           # in EXIF; 1 is upright
_TURNS = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
          6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}
_ROWS = 2**21                   # pixels of an image with transparency that are composed at a time
_BY_PILLOW = ("AVIF",)          # decoded without OpenCV, which does not know its orientation
_TURNED = ("TIFF",)             # oriented by OpenCV's decoder, whatever it is told
#: of files that Pillow does not read -> their names: the brand of an ISO media file
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"mif1": "HEIF",
           b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF"}
_FILTERS = threading.Lock()     # warning filters belong to the process: threads that meet here would leave them changed


@lru_cache(maxsize=2)
def _formats(names: tuple[str, ...] = FORMATS) -> tuple[str, ...]:
    """Those of `names` that this Pillow knows: it raises KeyError for another (AVIF came with 11.3)."""
    Image.init()
    return tuple(name for name in names if name in Image.OPEN)


def read_image(path: str | os.PathLike[str], max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """Read an image file -> (H, W, 3) uint8, BGR, upright (an EXIF orientation is applied).

    Grey is repeated to three channels; 16 bits are divided by 256; transparency is laid on white. ValueError,
    with the file's name, when it is missing, empty, cut off, no image, or larger than `max_pixels` or than MOST_OF
    says of its format.
    """
    path = Path(path)
    try:
        data = path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    if data is None:
        raise ValueError(f"{path}: {'is a folder, not an image' if path.is_dir() else 'no such file'}")
    return decode_image(data, str(path), max_pixels)


def decode_image(data: bytes, name: str = "image", max_pixels: float = MAX_PIXELS, side: int | None = None,
                 formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """`read_image` of the bytes of a file; `name` is what error messages call it.

    side  a larger image is reduced to this larger side, px, by averaging. A JPEG is decoded at a half, a quarter or an
          eighth of its size, so that the whole of it is never in memory; the sides of another format are reduced after
          it is decoded. None: as it is
    formats  of FORMATS, those that are read
    """
    header = image_header(data, name, max_pixels, formats)
    width, height = header.size
    image = _decode(header, data, name, side)       # outside the lock: threads decode side by side
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"{name}: OpenCV cannot decode this {header.format} image of {width}x{height} pixels")
    return image if side is None else _reduced(image, side)


def image_header(data: bytes, name: str = "image", max_pixels: float = MAX_PIXELS,
                 formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """What Pillow reads of an image before a pixel is decoded: its `size` (width, height) px and its `format`, one of
    FORMATS or "MPO". ValueError as `read_image`, but for files that are cut off or broken."""
    if not data:
        raise ValueError(f"{name}: is empty (0 bytes), not an image")
    if not _is_bounded(data):
        raise ValueError(f"{name}: the image is broken, or in more parts than any photo")
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")         # Pillow warns of large images; the bound below is ours
        try:
            header = Image.open(io.BytesIO(data), formats=_formats(formats))
        except Image.DecompressionBombError:
            raise ValueError(f"{name}: an image may have at most {max_pixels / 1e6:g} megapixels, this has "
                             "several times more") from None
        except MemoryError:
            raise
        except Exception:           # Pillow's readers raise what a damaged file makes them: struct.error, KeyError ...
            *most, last = (_WRITTEN.get(one, one) for one in formats)
            brand = _BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else None
            if brand:
                raise ValueError(f"{name}: is {brand}, which cannot be read here: save it as JPEG or PNG (read are "
                                 f"{', '.join(most)} or {last})") from None
            raise ValueError(f"{name}: must be an image ({', '.join(most)} or {last}), it is none of these or is "
                             f"broken ({len(data)} bytes)") from None
    width, height = header.size
    most = MOST_OF.get(header.format or "", max_pixels)
    what = f"an image in {_WRITTEN.get(header.format, header.format)}" if most < max_pixels else "an image"
    if width * height > min(most, max_pixels):
        raise ValueError(f"{name}: {what} may have at most {min(most, max_pixels) / 1e6:g} megapixels, this has "
                         f"{width}x{height} = {width * height / 1e6:.1f}")
    return header


def as_photo(image: np.ndarray, name: str = "image", max_pixels: float = MAX_PIXELS) -> np.ndarray:
    """An array of a caller -> (H, W, 3) uint8 BGR. Grey, (H, W) or (H, W, 1), is repeated to three channels; floats in
    [0, 1] are multiplied by 255. ValueError, with the rule, for anything else: another shape, no pixel, more than
    `max_pixels`, other integers, floats beyond [0, 1] or NaN, and what is no array."""
    rule = f"{name}: an image must be (H, W, 3) or grey (H, W), uint8 from 0 to 255 or floats from 0 to 1"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 and image.dtype.kind != "f":
        raise ValueError(f"{rule}, received {getattr(image, 'dtype', type(image).__name__)}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise ValueError(f"{rule}, received shape {image.shape}")
    if image.shape[0] * image.shape[1] > max_pixels:
        raise ValueError(f"{name}: an image may have at most {max_pixels / 1e6:g} megapixels, this has "
                         f"{image.shape[1]}x{image.shape[0]}")
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{rule}, received floats from {low:g} to {high:g}")
        image = _whole_numbers(image)
    return np.ascontiguousarray(image if image.shape[2] == 3 else np.repeat(image, 3, axis=2))


def _whole_numbers(image: np.ndarray) -> np.ndarray:
    """Floats (H, W, C) in [0, 1] -> uint8, some rows at a time: whole copies of them would take a gigabyte."""
    whole = np.empty(image.shape, np.uint8)
    step = max(1, _ROWS // image.shape[1])
    for top in range(0, len(image), step):
        whole[top:top + step] = np.rint(np.asarray(image[top:top + step], np.float32) * 255)
    return whole


def _is_bounded(data: bytes) -> bool:
    """Whether a JPEG or a PNG has few enough parts: Pillow visits those in front of the pixels one by one, and decoders
    all scans. True for other formats."""
    if data.startswith(b"\xff\xd8"):
        return _is_bounded_jpeg(data)
    position = 8
    for _ in range(MAX_PARTS if data.startswith(b"\x89PNG\r\n\x1a\n") else 0):
        if position >= len(data) or data[position + 4:position + 8] == b"IDAT":
            return True
        position += 12 + int.from_bytes(data[position:position + 4], "big")
    return position == 8


def _is_bounded_jpeg(data: bytes) -> bool:
    position, parts, scans, junk = 2, 0, 0, 0
    while position < len(data) and parts <= MAX_PARTS and scans <= MAX_SCANS and junk <= MAX_JUNK:
        found = _MARKER.search(data, position)
        end = len(data) if found is None else found.start()
        junk += 0 if scans else end - position
        if found is None or found[1] == b"\xd9":        # the end; phones put a video behind it
            break
        parts, scans, position = parts + 1, scans + (found[1] == b"\xda"), found.end()
        if found[1] not in (b"\x01", b"\xd8"):         # a segment that says its length
            position += int.from_bytes(data[position:position + 2], "big")
    return parts <= MAX_PARTS and scans <= MAX_SCANS and junk <= MAX_JUNK


def _decode(header: Image.Image, data: bytes, name: str, side: int | None) -> np.ndarray | None:
    has_alpha = header.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in header.info
    end, larger, flags = _ENDS.get(header.format or ""), max(header.size), cv2.IMREAD_COLOR
    if side is not None and header.format in ("JPEG", "MPO"):
        flags = next((flag for part, flag in _REDUCED if larger >= part * side), flags)
        header.draft(None, (side, side))        # for the check below, of which only the error counts
    try:
        orientation = header.getexif().get(_ORIENTATION, 1)
        if has_alpha:
            return _oriented(_on_white(header), orientation)
        if header.format in _BY_PILLOW:
            return _oriented(np.asarray(header.convert("RGB"))[..., ::-1], orientation)
        if end is None or end not in data[-_TAIL:]:
            header.load()
            header.im = None                    # before OpenCV decodes it once more
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ValueError(f"{name}: the image is cut off or broken ({reason})") from None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return image if image is None or header.format in _TURNED else _oriented(image, orientation)


def _oriented(image: np.ndarray, orientation: object) -> np.ndarray:
    """An image (H, W, 3) as its file holds it, turned and mirrored as EXIF's orientation, 1 to 8, says; as it is for
    any other value."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return np.ascontiguousarray(image if turn is None else turn(image))


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 with its larger side at most `side` px."""
    larger = max(image.shape[:2]) / side
    if larger <= 1:
        return image
    size = max(1, round(image.shape[1] / larger)), max(1, round(image.shape[0] / larger))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _on_white(image: Image.Image) -> np.ndarray:
    """An image with transparency, as its file holds it, composed on white: the colours of transparent pixels are
    arbitrary. Some rows at a time: whole copies of a large image would take a gigabyte."""
    image.load()
    if image.mode.startswith("I"):      # 16 bits, of which one grey is transparent
        grey = np.asarray(image)
        visible = np.where(grey == image.info["transparency"], 255, grey // 256).astype(np.uint8)
        return np.repeat(visible[..., None], 3, axis=2)
    width, height = image.size
    white = np.empty((height, width, 3), np.uint8)
    step = max(1, _ROWS // max(1, width))
    for top in range(0, height, step):
        part = image.crop((0, top, width, min(top + step, height))).convert("RGBA")
        below = Image.new("RGBA", part.size, (255, 255, 255, 255))
        white[top:top + step] = np.asarray(Image.alpha_composite(below, part).convert("RGB"))[:, :, ::-1]
    return white


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) in pixels as the file's header says, before any EXIF rotation; nothing is decoded."""
    check_regular(path)
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")         # before the file is opened: that is when Pillow warns
            with Image.open(path, formats=_formats()) as header:
                return header.size
    except Exception:
        raise ValueError(f"{path}: must be an image whose header can be read") from None


def write_image(path: str | os.PathLike[str], image: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) uint8 BGR or (H, W) grey atomically; the ending chooses the format.

    `quality` is JPEG's (95 is OpenCV's default). ValueError for another shape, dtype or an unknown ending.
    """
    path = Path(path)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] in (3, 4)) \
            or image.size == 0:
        raise ValueError(f"{path}: an image is written from (H, W, 3) uint8, got {image.shape} {image.dtype}")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        ok, data = cv2.imencode(path.suffix, image, options)
    except cv2.error:
        ok = False
    if not ok:
        raise ValueError(f"{path}: OpenCV writes no image with the ending {path.suffix!r}")
    write_atomic(path, lambda temporary: temporary.write_bytes(data.tobytes()))


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """Cut `box` = (x, y, w, h) out of (H, W, ...) -> (h, w, ...), a copy.

    What lies outside the image repeats its border pixels: a box at the boundary keeps its shape, and no black edge
    is added that a network could learn. ValueError if the box is empty or misses the image altogether.
    """
    x, y, w, h = (int(v) for v in box)
    height, width = image.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if w <= 0 or h <= 0 or right <= left or bottom <= top:
        raise ValueError(f"a face box must have a size and meet the image of {width}x{height}, got {tuple(box)}")
    inside = image[top:bottom, left:right]
    if inside.shape[:2] == (h, w):
        return inside.copy()
    return cv2.copyMakeBorder(inside, top - y, y + h - bottom, left - x, x + w - right, cv2.BORDER_REPLICATE)


def crop_resize(image: np.ndarray, box: Box, size: int,
                interpolation: Literal["linear", "area"] = "linear") -> np.ndarray:
    """Cut `box` out of (H, W, 3) uint8 and scale it to (size, size, 3).

    `linear` is the thesis's plain `cv2.resize` (listing B-1.3). `area` averages when it shrinks, so a face of
    2,000 pixels does not alias; it is linear when it enlarges.
    """
    if size < 1:
        raise ValueError(f"a crop's size must be at least 1 pixel, got {size}")
    if interpolation not in ("linear", "area"):
        raise ValueError(f"interpolation must be 'linear' or 'area', got {interpolation!r}")
    cut = crop(image, box)
    shrinks = cut.shape[0] > size and cut.shape[1] > size
    how = cv2.INTER_AREA if interpolation == "area" and shrinks else cv2.INTER_LINEAR
    return cv2.resize(cut, (size, size), interpolation=how)


def crop_resample(image: np.ndarray, box: Sequence[float], size: int) -> np.ndarray:
    """Cut a square `box` = (x, y, w, w), px, floats, out of (H, W, 3) uint8 or float32 -> (size, size, 3), same dtype.

    Bilinear; averaged where it shrinks; the border is continued, so that any finite box has a crop. ValueError for an
    empty or infinite box.
    """
    x, y, w = (float(value) for value in box[:3])
    if not (np.isfinite([x, y, w]).all() and w > 0 and size >= 1):
        raise ValueError(f"a crop needs a finite box with a size and at least 1 pixel, got {tuple(box)} and {size}")
    finer = min(8, max(1, int(np.ceil(w / size - 1e-6))))
    step = w / (finer * size)
    # OpenCV puts the first pixel's centre at (0, 0), we at (0.5, 0.5)
    matrix = np.array([[step, 0, x + 0.5 * step - 0.5], [0, step, y + 0.5 * step - 0.5]])
    cut = cv2.warpAffine(image, matrix, (finer * size, finer * size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                         borderMode=cv2.BORDER_REPLICATE)
    return cut if finer == 1 else cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)


def minmax(image: np.ndarray) -> np.ndarray:
    """Stretch one image to [0, 1]: (H, W, 3) of any real dtype -> float32.

    As published (listing B-5: `cv2.normalize(..., 0, 1, NORM_MINMAX)`): one minimum and one maximum over all
    pixels and channels. A constant image gives zeros, as there.
    """
    return cv2.normalize(image.astype(np.float32), None, 0, 1, cv2.NORM_MINMAX)


def scaled(image: np.ndarray, scaling: str) -> np.ndarray:
    """Scale an image for a network: (H, W, 3) uint8 -> float32 in [0, 1].

    scaling  "unit": divided by 255, so that a dark photo stays dark (Ronkainen 2017, 3.6; Isola et al. 2017);
             "minmax": `minmax`. A network's Config has it as `scaling`; one that has none takes minmax

    ValueError for another scaling, and for a dtype other than uint8 with unit.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")
    if scaling == "minmax":
        return minmax(image)
    if image.dtype != np.uint8:
        raise ValueError(f"scaling unit divides 8 bits by 255: an image must be uint8, got {image.dtype}")
    return image / np.float32(255)


def tiled(tiles: Sequence[np.ndarray], columns: int, empty: int = 0) -> np.ndarray:
    """Images (h, w, 3) uint8 of one size as rows of `columns` -> (rows * h, columns * w, 3); `empty`: the value where
    there is none."""
    columns = min(columns, len(tiles))
    padded = [*tiles, *[np.full_like(tiles[0], empty)] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(padded[first:first + columns]) for first in range(0, len(padded), columns)])
