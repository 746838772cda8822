"""The cases of tests/bench/hostile.py, but for the page's: files, flags, settings, outputs, arguments."""
from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from tests.bench import hostile_files as made

Case = tuple[str, Callable[[], str]]
_number = itertools.count()


def find(*readers: str) -> Any:
    """The first of "module:name" that there is: names changed between commits. LookupError for none."""
    for reader in readers:
        module, _, name = reader.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise LookupError(readers[0])


def refusal(error: ValueError, named: str = "") -> str:
    """Is a ValueError one line, which names the file?"""
    text = str(error)
    if "\n" in text or not text.strip() or named and named not in text:
        return f"wrong: says {text[:200]!r}"
    return "clear"


def read(readers: tuple[str, ...] | Callable[[Path], Any], folder: Path, name: str, data: Callable[[], bytes],
         sound: Callable[[Any], bool], refused: bool = False, given: str | None = None) -> Callable[[], str]:
    """A case: write `data` as `name` in a new folder, and read it. readers: of `find`, or the reader itself; given:
    another file that the reader is named; refused: a reader that accepts it is wrong."""
    number = next(_number)
    if isinstance(readers, tuple):
        with contextlib.suppress(LookupError):
            find(*readers)      # imported here: the children need not do it again and again

    def case() -> str:
        try:
            reader = find(*readers) if isinstance(readers, tuple) else readers
        except LookupError:
            return "absent"
        here = folder / f"case{number}"
        here.mkdir()
        (here / name).write_bytes(data())
        try:
            value = reader(here / (given or name))
        except ValueError as error:
            return refusal(error, name)
        finally:
            shutil.rmtree(here)
        return "wrong: was accepted" if refused else "fine" if sound(value) else "wrong: accepted, and unsound"
    return case


# --- files --------------------------------------------------------------------------------------------------------
MESH = ("Dataset.io.mesh_io:read_mesh", "Dataset.mesh:read_mesh")
LANDMARKS = ("Dataset.io.landmark_files:read_landmarks", "Dataset.landmark_files:read_landmarks")
BND = ("Dataset.sources.bnd:read_bnd", "Dataset.bnd:read_bnd")
FLAME = ("Dataset.face_model.readers.flame:read_flame", "Dataset.face_models.flame:read_flame")
BASEL = ("Dataset.face_model.readers.basel:read_basel_2017", "Dataset.face_models.basel:read_basel_2017")
PHOTO = ("Dataset.sources.aflw2000:read_photo", "Dataset.aflw2000:read_photo")
VOLUME = ("Dataset.representations.volume:load_volume",)
JSON = ("Dataset.io.json_files:read_json", "Dataset.json_files:read_json")
IMAGE = ("Dataset.io.images:read_image", "Dataset.images:read_image")
SUBJECTS = "Dataset.sources.subjects", "Dataset.subjects"
MODEL = ("Network.training.loading:load_model", "Network.loading:load_model")


def sound_mesh(mesh: Any) -> bool:
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    return bool(len(vertices) and np.isfinite(vertices).all() and np.abs(vertices).max() < 1e100
                and (not triangles.size or 0 <= triangles.min() <= triangles.max() < len(vertices)))


def finite(value: Any) -> bool:
    return bool(np.isfinite(np.asarray(value)).all())


def meshes(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    with contextlib.suppress(LookupError):
        if find(*MESH).__module__ == "Dataset.mesh":        # it reads through these, which take seconds to import
            importlib.import_module("open3d")
            importlib.import_module("pymeshlab")
    files = {"ply text": ("a.ply", made.ply_text(), b"end_header\n"), "ply binary": ("a.ply", made.ply_binary(), None),
             "obj": ("a.obj", made.obj_text(), b""), "wrl": ("a.wrl", made.wrl_text(), b"point [")}
    for kind, (name, data, behind) in files.items():
        for _ in range(count):
            yield f"mesh: {kind}", read(MESH, folder, name, lambda d=made.mutant(data, rng): d, sound_mesh)
        for _ in range(count if behind is not None else 0):
            bad = made.numbers_replaced(data, rng, made.NO_NUMBERS[:-1], behind)
            yield f"mesh: {kind}, no number", read(MESH, folder, name, lambda d=bad: d, sound_mesh, refused=True)
            odd = made.numbers_replaced(data, rng, made.HOSTILE_NUMBERS, behind)
            yield f"mesh: {kind}, odd number", read(MESH, folder, name, lambda d=odd: d, sound_mesh)
    nested = b"#VRML V2.0 utf8\n" + b"DEF A Group { children [ USE A " * 5000
    texture = b"#VRML V2.0 utf8\nShape { geometry IndexedFaceSet { coord " + b"texture ImageTexture { url " * 20000
    head = made.ply_text()[:-1].replace(b"\n3 0 1", b"\n0\n3 0 1", 1)
    for name, data in (("a.wrl", nested), ("a.wrl", texture), ("a.ply", head), ("a.ply", made.ply_text().replace(
            b"element vertex 81", b"element vertex 10000000000000")), ("a.ply", b"ply\ncomment " + b"x" * (1 << 22)),
            ("a.obj", b"v 0 0 0\nf 1 2 3\n"), ("a.obj", b"v 0 0 0\nf -1 -2 9999999999999\n"), ("a.obj", b"f\n" * 9)):
        yield "mesh: crafted", read(MESH, folder, name, lambda d=data: d, sound_mesh, refused=True)
    sets = b"IndexedFaceSet { coord Coordinate { point [ 0 0 0, 1 0 0, 0 1 0 ] } coordIndex [ 0 1 2 -1 ] }\n" * 50_000
    yield "mesh: crafted", read(MESH, folder, "a.wrl", lambda: b"#VRML V2.0 utf8\n" + sets, sound_mesh)
    line = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf " + b"1 " * 10**7 + b"\n"
    yield "mesh: crafted", read(MESH, folder, "a.obj", lambda: line, sound_mesh, refused=True)
    surplus = made.ply_binary() + bytes(1000)
    yield "mesh: crafted", read(MESH, folder, "a.ply", lambda: surplus, sound_mesh, refused=True)
    readers = {"a.ply": MESH, "a.obj": MESH, "a.wrl": MESH, "a.pts": LANDMARKS, "a.bnd": BND, "a.pkl": FLAME,
               "a.npz": VOLUME, "a.jpg": IMAGE, "a.json": JSON}
    for name, reader in readers.items():
        for what in ("pipe", "device", "loop"):
            yield f"no file: {what}", _no_file(reader, folder, name, what)


def _no_file(readers: tuple[str, ...], folder: Path, name: str, what: str) -> Callable[[], str]:
    """A case: a named pipe that nobody writes to, a device without end, a loop of links."""
    number = next(_number)

    def case() -> str:
        here = folder / f"case{number}"
        here.mkdir()
        match what:
            case "pipe":
                os.mkfifo(here / name)
            case "device":
                (here / name).symlink_to("/dev/zero")
            case "loop":
                (here / name).symlink_to(here / name)
        try:
            find(*readers)(here / name)
        except LookupError:
            return "absent"
        except ValueError as error:
            return refusal(error, name)
        finally:
            shutil.rmtree(here)
        return "wrong: was accepted"
    return case


def numbers(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    for name, data in made.landmark_texts().items():
        readers = BND if name.endswith("bnd") else LANDMARKS
        for _ in range(count // 2 + 1):
            yield "landmarks", read(readers, folder, name, lambda d=made.mutant(data, rng): d, finite)
        deep = b'{"points": ' + b"[" * 100_000
        yield "landmarks", read(readers, folder, name, lambda d=deep: d, finite, refused=True)
    for _ in range(count):
        yield "volume .npz", read(VOLUME, folder, "a.npz", lambda d=made.mutant(made.volume_npz(), rng): d,
                                  lambda value: value.dtype == bool)
    for lie in made.npz_lies():
        yield "volume .npz, promises", read(VOLUME, folder, "a.npz", lie, finite, refused=True)
    for _ in range(count):
        mat = made.mutant(made.mat_landmarks(), rng)
        yield "MATLAB .mat", read(PHOTO, folder, "a.mat", lambda d=mat: d, lambda p: finite(p.landmarks), given="a.jpg")
        basel = made.mutant(made.basel_h5(), rng)
        yield "HDF5 .h5", read(BASEL, folder, "a.h5", lambda d=basel: d, lambda raw: finite(raw.mean))
    for lie in made.mat_lies():
        yield "MATLAB .mat, promises", read(PHOTO, folder, "a.mat", lie, lambda _: True, refused=True, given="a.jpg")
    for lie in made.hdf5_lies():
        yield "HDF5 .h5, promises", read(BASEL, folder, "a.h5", lie, lambda _: True, refused=True)


def pickles(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    whole, mark = made.flame_pickle(), folder / "ran"
    for _ in range(2 * count):
        yield "pickle (FLAME)", read(FLAME, folder, "a.pkl", lambda d=made.mutant(whole, rng): d,
                                     lambda raw: finite(raw.mean) and not mark.exists())
    run = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    state = b"(cnumpy\ndtype\n(S'V8'\nI0\nI1\ntR(I3\nS'|'\nNNNI8\nI8\nI63\ntb."
    objects = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\ntcnumpy\ndtype\n" \
              b"(S'O8'\nI0\nI1\ntRI00\nS'AAAAAAAA'\ntb."
    doubled = b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"U\x01x\x93."
    expression = b"S'a'" + b"+-" * 10**5 + b"\n."
    for data in (run, state, objects, doubled, expression, b"(" * 10**6, b"]q\x00h\x00a" * 10**5 + b".",
                 b"I" + b"9" * 10**5 + b"\n.", b"\x8e" + b"\xff" * 8, whole[:-1] + b"0" * 100 + b"."):
        yield "pickle, crafted", read(FLAME, folder, "a.pkl", lambda d=data: d, lambda _: False, refused=True)


def pixels(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    def shaped(image: Any) -> bool:
        return image.ndim == 3 and image.dtype == np.uint8
    for name, data in made.images().items():
        for _ in range(count // 3 + 1):
            yield "image", read(IMAGE, folder, name, lambda d=made.mutant(data, rng): d, shaped)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    dds = b"DDS " + (124).to_bytes(4, "little") + bytes(120)
    for data in (eps, dds, b"P6 9 9 255 " + bytes(300), b"", b"GIF89a" + b"\xff" * 20, b"\x00\x00\x01\x00" * 9):
        yield "image, crafted", read(IMAGE, folder, "a.jpg", lambda d=data: d, shaped, refused=True)
    video = made.video(folder)
    (folder / "beside.avi").write_bytes(video)

    def frames(path: Path) -> list:
        reader = find("Dataset.io.inputs:read_inputs", "Dataset.sources:read_inputs", "Dataset.sources:pictures")
        return list(reader([path], frames=10**9))
    for data in [video] + [made.mutant(video, rng) for _ in range(count // 2)]:
        yield "video", read(frames, folder, "a.avi", lambda d=data: d, lambda all: 0 < len(all) < 99)
    listed = b"ffconcat version 1.0\nfile ../beside.avi\n"
    for data in (listed, listed[:21] + listed[21:] * 10**5, b"#EXTM3U\n../beside.avi\n", b"\xff\xd8\xff" + bytes(99)):
        yield "video, crafted", read(frames, folder, "a.mp4", lambda d=data: d, lambda _: False, refused=True)


VALUES = (None, "x", -1, 0, 1e308, float("nan"), float("inf"), [], [1] * 1000, {}, 10**9, 10**20, True, "9" * 10**5,
          [None], [[1]], [10**9, 10**9], 2.5, "²")


def jsons(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    sound = {"split.json": {"version": 1, "training": ["a"], "validation": ["b"], "test": ["c"], "seed": 0},
             "dataset.json": {"version": 1, "source": "x", "points": 64, "order": "random", "grid": 0, "image_size": 64,
                              "seed": 0, "units": "mm", "settings": {}, "complete": True}}
    for name, reader in (("split.json", "read_split"), ("dataset.json", "dataset_info")):
        readers = tuple(f"{module}:{reader}" for module in SUBJECTS)
        for k in range(count):
            key = sorted(sound[name])[int(rng.integers(len(sound[name])))]
            data = json.dumps({**sound[name], key: VALUES[int(rng.integers(len(VALUES)))]}).encode()
            data = made.mutant(data, rng) if k % 3 == 0 else data
            yield "JSON", read(readers, folder, name, lambda d=data: d, lambda _: True, given=".")
        for data in (b"[" * 10**6, b'{"a":' * 10**5, b"1" * 10**5, b"\xff\xfe", b"", b"null"):
            yield "JSON, crafted", read(readers, folder, name, lambda d=data: d, lambda _: True, refused=True,
                                        given=".")


# --- models -------------------------------------------------------------------------------------------------------
def bundled() -> Path:
    """The weight folder of `compact`."""
    package = Path(importlib.import_module("Network").__file__).parent
    return next(path for path in (package / "weights" / "compact", package / "res" / "compact") if path.is_dir())


def in_copy(folder: Path, change: Callable[[Path], Any], named: str = "") -> Callable[[], str]:
    """A case: load a changed copy of the bundled folder."""
    number = next(_number)

    def case() -> str:
        here = folder / f"model{number}"
        shutil.copytree(bundled(), here)
        try:
            change(here)
            find(*MODEL)(here)
        except ValueError as error:
            return refusal(error, named or here.name)
        finally:
            shutil.rmtree(here)
        return "fine"
    return case


def models(rng: np.random.Generator, count: int, folder: Path) -> Iterator[Case]:
    with contextlib.suppress(LookupError):
        find(*MODEL)            # imported here, not in each child
    config = json.loads((bundled() / "config.json").read_text())
    for k in range(count):
        key = sorted(config["model"])[int(rng.integers(len(config["model"])))]
        value = VALUES[int(rng.integers(len(VALUES)))]
        changed = {**config, "model": {**config["model"], key: value}}
        if k % 4 == 0:
            changed = {**config, sorted(config)[int(rng.integers(len(config)))]: value}
        yield "model: config.json", in_copy(folder, lambda here, c=changed: (here / "config.json").write_text(
            json.dumps(c)))
    weights = (bundled() / "weights.npz").read_bytes()
    for _ in range(count // 4 + 1):
        data = made.mutant(weights, rng)
        yield "model: weights.npz", in_copy(folder, lambda here, d=data: (here / "weights.npz").write_bytes(d))
    for lie in made.npz_lies():
        yield "model: weights.npz", in_copy(folder, lambda here, d=lie: (here / "weights.npz").write_bytes(d()))
    for kind in ("keras", "h5"):
        whole = _saved(folder, kind)
        for _ in range(count // 2 + 1):
            yield f"model: .{kind}", read(MODEL, folder, f"a.{kind}", lambda d=made.mutant(whole, rng): d,
                                          lambda loaded: loaded.points == 4)
    for lie in (*made.hdf5_lies(), *made.npz_lies()):
        yield "model: promises", read(MODEL, folder, "a.h5", lie, lambda _: True, refused=True)
        yield "model: promises", read(MODEL, folder, "a.keras", lie, lambda _: True, refused=True)
    entries = _entries(_saved(folder, "keras"))
    hostile = [{**entries, "../evil": b"x"}, {**entries, "config.json": b"[" * 10**6},
               {**entries, "config.json": bytes(50 << 20)}, {**entries, "model.weights.h5": bytes(500 << 20)},
               {**entries, "config.json": entries["config.json"].replace(b'"units": 12', b'"units": 99999999999')},
               {**entries, "config.json": entries["config.json"].replace(b'"Dense"', b'"Lambda"')},
               {**entries, "config.json": entries["config.json"].replace(b'"Dense"', b'"TFSMLayer"')}]
    hostile += [{**entries, "model.weights.h5": lie()} for lie in made.hdf5_lies()]
    for one in hostile:
        yield "model: .keras, crafted", read(MODEL, folder, "a.keras", lambda e=one: made.zipped(e), lambda _: True,
                                             refused=True)


def _entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _saved(folder: Path, kind: str) -> bytes:
    """A tiny network of Keras's own layers, saved in a child: this process runs no operation."""
    path = folder / f"saved.{kind}"
    if not path.exists():
        child = os.fork()
        if not child:
            import keras
            images = keras.Input((2, 8, 8, 3))
            flat = keras.layers.Dense(12)(keras.layers.Flatten()(images))
            keras.Model(images, keras.layers.Reshape((4, 3))(flat)).save(path)
            os._exit(0)
        os.waitpid(child, 0)
    return path.read_bytes()


def cases(seed: int, count: int, folder: Path, wanted: list[str]) -> Iterator[Case]:
    """Every kind whose name contains one of `wanted`, or all: (kind, case)."""
    from tests.bench import hostile_commands
    makers = {"mesh no": meshes, "landmarks volume MATLAB HDF5": numbers, "pickle": pickles, "image video": pixels,
              "JSON": jsons, "model": models, "flags settings": hostile_commands.flags,
              "output": hostile_commands.outputs, "arguments": hostile_commands.arguments}
    for number, (words, maker) in enumerate(makers.items()):
        if not wanted or any(word.split(":")[0].split(" ")[0] in words for word in wanted):
            rng = np.random.default_rng([seed, number])
            yield from (case for case in maker(rng, count, folder)
                        if not wanted or any(word in case[0] for word in wanted))
