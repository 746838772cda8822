"""Sound files of every format that is read, made without this program, and mutants of them."""
from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Callable

import cv2
import h5py
import numpy as np
import scipy.io
from PIL import Image

#: words that stand where a number should
NO_NUMBERS = ("1,5", "nan", "inf", "-inf", "x", "1.0.0", "0x10", "1_0", "--1", "1e", "NaN(1)", "")
HOSTILE_NUMBERS = ("1e308", "-1", "0", "99999999999", "18446744073709551616", "2147483648", "1e-320", "0.5", "007")


def mesh_arrays(side: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """A curved square: vertices (V, 3), triangles (F, 3)."""
    y, x = np.mgrid[:side, :side] / (side - 1)
    vertices = np.stack([x, y, 0.2 * np.sin(3 * x)], -1).reshape(-1, 3)
    i = np.arange(side * side).reshape(side, side)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def ply_text() -> bytes:
    vertices, triangles = mesh_arrays()
    head = (f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
            f"property float z\nelement face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n")
    rows = ["%.5f %.5f %.5f" % tuple(v) for v in vertices] + ["3 %d %d %d" % tuple(t) for t in triangles]
    return (head + "\n".join(rows) + "\n").encode()


def ply_binary() -> bytes:
    vertices, triangles = mesh_arrays()
    head = ply_text().split(b"end_header\n")[0].replace(b"ascii", b"binary_little_endian") + b"end_header\n"
    faces = b"".join(struct.pack("<B3i", 3, *t) for t in triangles)
    return head + vertices.astype("<f4").tobytes() + faces


def obj_text() -> bytes:
    vertices, triangles = mesh_arrays()
    rows = ["mtllib other.mtl", *("v %.5f %.5f %.5f" % tuple(v) for v in vertices),
            *("vt %.5f %.5f" % tuple(v[:2]) for v in vertices),
            *("f %d/%d %d/%d %d/%d" % tuple(np.repeat(t + 1, 2)) for t in triangles)]
    return ("\n".join(rows) + "\n").encode()


def wrl_text() -> bytes:
    vertices, triangles = mesh_arrays()
    return ("#VRML V2.0 utf8\nShape { appearance Appearance { texture ImageTexture { url \"a.jpg\" } }\n"
            " geometry IndexedFaceSet { coord Coordinate { point [\n"
            + ",\n".join("%.5f %.5f %.5f" % tuple(v) for v in vertices) + " ] }\n coordIndex [\n"
            + ",\n".join("%d, %d, %d, -1" % tuple(t) for t in triangles) + " ] } }\n").encode()


def landmark_texts() -> dict[str, bytes]:
    points = np.random.default_rng(1).normal(size=(83, 3))
    pts = "version: 1\nn_points: 68\n{\n" + "\n".join("%.5f %.5f %.5f" % tuple(p) for p in points[:68]) + "\n}\n"
    return {"a.pts": pts.encode(), "a.json": json.dumps({"points": points[:68].tolist()}).encode(),
            "a.bnd": "\n".join("%d %.5f %.5f %.5f" % (i, *p) for i, p in enumerate(points)).encode()}


def flame_pickle() -> bytes:
    vertices = np.random.default_rng(2).normal(size=(120, 3))
    shapes = np.random.default_rng(3).normal(size=(120, 3, 8))
    return pickle.dumps({"v_template": vertices, "shapedirs": shapes, "f": np.arange(30).reshape(10, 3)}, protocol=2)


def mat_landmarks() -> bytes:
    data = io.BytesIO()
    rng = np.random.default_rng(4)
    scipy.io.savemat(data, {"pt3d_68": rng.normal(size=(3, 68)), "Pose_Para": rng.normal(size=(1, 7))},
                     do_compression=True)
    return data.getvalue()


def basel_h5() -> bytes:
    data, rng = io.BytesIO(), np.random.default_rng(5)
    with h5py.File(data, "w") as file:
        for name, array in (("mean", rng.normal(size=360)), ("pcaBasis", rng.normal(size=(360, 4))),
                            ("pcaVariance", rng.random(4) + 1)):
            file.create_dataset(f"shape/model/{name}", data=array, compression="gzip" if name == "pcaBasis" else None)
        file["shape/representer/cells"] = rng.integers(0, 120, (3, 50))
    return data.getvalue()


def volume_npz() -> bytes:
    data = io.BytesIO()
    packed = np.random.default_rng(6).integers(0, 256, (32, 32, 4)).astype(np.uint8)
    np.savez_compressed(data, packed=packed, layers=np.array(32, np.int64))
    return data.getvalue()


def images() -> dict[str, bytes]:
    pixels = np.random.default_rng(7).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    found = {}
    for name, form in (("a.jpg", "JPEG"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.bmp", "BMP"), ("a.tif", "TIFF"),
                       ("a.gif", "GIF")):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, form)
        found[name] = data.getvalue()
    return found


def video(folder: Path) -> bytes:
    path = folder / "made.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    rng = np.random.default_rng(8)
    for _ in range(6):
        writer.write(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    return path.read_bytes()


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """One to a few changes: cut, flipped bits, a block doubled, zeroed or moved, a field set to its largest value."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        at, size = int(rng.integers(len(out))), int(rng.integers(1, 65))
        match int(rng.integers(7)):
            case 0:
                del out[at:]
            case 1:
                for _ in range(int(rng.integers(1, 9))):
                    out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
            case 2:
                out[at:at] = out[at:at + size]
            case 3:
                out[at:at + size] = bytes(len(out[at:at + size]))
            case 4:
                out[at:at + 8] = b"\xff" * len(out[at:at + 8])
            case 5:
                del out[at:at + size]
            case 6:
                out[at:at + size] = rng.bytes(size)
    return bytes(out)


def numbers_replaced(data: bytes, rng: np.random.Generator, words: tuple[str, ...], behind: bytes = b"") -> bytes:
    """Text with one of its numbers, behind a mark, replaced by one of `words`."""
    start = data.index(behind) + len(behind)
    head, tokens = data[:start], data[start:].split(b" ")
    positions = [i for i, token in enumerate(tokens) if token.strip().replace(b".", b"").replace(b"-", b"").isdigit()]
    tokens[positions[int(rng.integers(len(positions)))]] = words[int(rng.integers(len(words)))].encode()
    return head + b" ".join(tokens)


def npy(shape: tuple[int, ...], data: bytes, kind: str = "<f8") -> bytes:
    """A .npy whose header promises `shape`, whatever its data are."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def zipped(entries: dict[str, bytes], compress: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compress) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return data.getvalue()


def lying_zip(name: str, size: int) -> bytes:
    """A zip whose directory promises `size` bytes of an entry that has a few."""
    data = bytearray(zipped({name: b"a" * 100}))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        position = data.index(mark) + at
        data[position:position + 4] = struct.pack("<I", size)
    return bytes(data)


def npz_lies() -> list[Callable[[], bytes]]:
    return [lambda: zipped({"packed.npy": npy((10**13,), b"x" * 64), "layers.npy": npy((), b"\1" * 8, "<i8")}),
            lambda: zipped({"packed.npy": npy((-4, 4), b"x" * 64)}), lambda: lying_zip("packed.npy", 2**32 - 2),
            lambda: zipped({"packed.npy": bytes(100 << 20)}), lambda: zipped({"../../packed.npy": npy((1,), bytes(8))}),
            lambda: zipped({"packed.npy": npy((2,), bytes(16), "|O")}),
            lambda: zipped({"packed.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535})]


def hdf5_lies() -> list[Callable[[], bytes]]:
    def file(make: Callable[[h5py.File], None]) -> bytes:
        data = io.BytesIO()
        with h5py.File(data, "w") as root:
            make(root)
        return data.getvalue()
    name = "shape/model/mean"

    def looped(root: h5py.File) -> None:
        root["shape/model/again"] = root["/"]
    return [lambda: file(lambda root: root.create_dataset(name, (10**13,), "f8")),
            lambda: file(lambda root: root.create_dataset(name, (10**13,), "f8", chunks=(10**6,), compression="gzip")),
            lambda: file(lambda root: root.create_dataset(name, data=np.zeros(10**7), compression="gzip")),
            lambda: file(lambda root: root.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/"))),
            lambda: file(lambda root: root.__setitem__(name, h5py.SoftLink("/shape"))), lambda: file(looped)]


def mat_lies() -> list[Callable[[], bytes]]:
    whole = mat_landmarks()

    def bomb() -> bytes:
        inner = struct.pack("<II", 14, 1 << 30) + bytes(1 << 27)
        packed = zlib.compress(inner)
        return whole[:128] + struct.pack("<II", 15, len(packed)) + packed

    def nested() -> bytes:
        """The landmarks' variable as a cell in a cell in a cell ..., 100,000 deep."""

        def element(kind: int, data: bytes) -> bytes:
            return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
        head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1))
        inside, sizes = head + element(1, b""), [0]
        for _ in range(100_000):
            sizes.append(sizes[-1] + len(inside) + 8)
        parts = [struct.pack("<II", 14, size) + inside for size in sizes[-2:0:-1]]
        body = head + element(1, b"pt3d_68") + b"".join(parts)
        packed = zlib.compress(struct.pack("<II", 14, len(body)) + body)
        return whole[:128] + struct.pack("<II", 15, len(packed)) + packed
    return [bomb, nested, lambda: whole[:128] + struct.pack("<II", 15, 2**32 - 1) + whole[136:],
            lambda: whole[:128] + struct.pack("<II", 14, 2**31), lambda: whole[:130]]
