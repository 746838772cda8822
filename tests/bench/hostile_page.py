"""What rude and broken visitors send to the page of `demo.py --serve`, for tests/bench/hostile.py.

    for name, case in cases():
        print(name, case())

A case returns "fine" (a good request, answered well), "clear" (refused in words, or a closed connection where no words
are due), "traceback" (status 500), "hang" (no end in time) or "wrong" (answered what it must not answer, or a gigabyte
of memory). "signal" would end the process. The page runs in this process with a stub in place of a network and its own
limits; one server for each process that calls a case.
"""
from __future__ import annotations

import functools
import http.client
import io
import os
import random
import re
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterator

import numpy as np
from PIL import Image

from tests.bench.hostile_cases import find

Mesh = find("Dataset.geometry.mesh:Mesh", "Dataset.mesh:Mesh")
FaceServer = find("Evaluation.web.serve:FaceServer", "Evaluation.serve:FaceServer")
ServeConfig = find("Evaluation.web.serve:ServeConfig", "Evaluation.serve:ServeConfig")
Case = Callable[[], str]
SECONDS = 30            # of a request; what the page itself bounds ends sooner, but for the wait for a turn
MUTANTS = 15            # of each format
MESH = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))


def cases() -> Iterator[tuple[str, Case]]:
    """All cases, the quick ones first."""
    yield from _senders()
    yield from _lines()
    yield from _sizes()
    yield from _photos()
    yield from _mutants()
    yield "page: 20 good requests at once", _twenty
    yield "page: 300 idle connections", _idle
    yield "page: 4 uploads of a byte per second", _drips
    yield "page: first lines of a byte per second", _dripping_head
    yield "page: a 64-megapixel photo with transparency", lambda: _memory(_blank("PNG", (8000, 8000), "RGBA"))
    yield "page: 24 megapixels with transparency", lambda: _memory(_blank("PNG", (6000, 4000), "RGBA"))
    yield "page: a JPEG of 50 megapixels", lambda: _memory(_blank("JPEG", (8160, 6144)))


def _work(images: Any, network: str) -> Any:
    """Stands for a network: takes the photos one by one."""
    if not any(image.size for image in images):
        raise ValueError("no photo")
    time.sleep(0.05)
    return SimpleNamespace(mesh=MESH, files={"face.ply": b"ply"}, skipped=[])


@functools.lru_cache(maxsize=1)
def _server_of(process: int) -> FaceServer:
    server = FaceServer(ServeConfig(port=0), _work, {"compact": "a stub"})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _port() -> int:
    return _server_of(os.getpid()).server_address[1]


def _ask(method: str, path: str, body: bytes | None = None, seconds: float = SECONDS, **headers: str
         ) -> tuple[int, bytes]:
    """Status and bytes of an answer; TimeoutError and ConnectionError as they come."""
    link = http.client.HTTPConnection("127.0.0.1", _port(), timeout=seconds)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if method == "POST":
        headers.setdefault("Origin", f"http://{headers.get('Host', f'127.0.0.1:{_port()}')}")
    try:
        link.request(method, path, body, headers)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def _verdict(status: int, data: bytes, good: bool) -> str:
    """good: the request is one that must be answered."""
    if status == 500:
        return "traceback"
    if status < 400:
        return "fine" if good else "wrong"
    return "clear" if b'"error"' in data and (not good or status == 503) else "wrong"


def _ended(case: Case) -> Case:
    """A case whose connection may be closed, but must end."""
    @functools.wraps(case)
    def run() -> str:
        try:
            return case()
        except TimeoutError:
            return "hang"
        except (OSError, http.client.HTTPException):        # ENOTCONN: closed before the last word was sent
            return "clear"
    return run


def _open_session() -> str:
    status, data = _ask("POST", "/visit")
    assert status == 200, data
    return data.decode().split('"')[3]


def _upload(photo: bytes, seconds: float = SECONDS, **headers: str) -> tuple[int, bytes]:
    token = _open_session()
    try:
        headers.setdefault("X_Photo_Sizes", str(len(photo)))
        return _ask("POST", f"/visit/{token}/face?network=compact", photo, seconds, **headers)
    finally:
        _ask("POST", f"/visit/{token}/leave")


def _blank(kind: str, size: tuple[int, int] = (60, 40), mode: str = "RGB", **more: Any) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size, 128).save(data, kind, **more)
    return data.getvalue()


def _senders() -> Iterator[tuple[str, Case]]:
    for host in ("evil.example", "127.0.0.1.evil.example", "192.168.1.5:8000", "8.8.8.8", "0.0.0.0", "[::]", "", "[",
                 "a" * 9000, "localhost.evil.example", "2130706433", "127.1", "[::ffff:8.8.8.8]"):
        yield f"page: Host {host[:30]}", _ended(lambda host=host: _verdict(*_ask("GET", "/about", Host=host), False))
    for host in ("127.0.0.1", "localhost", "[::1]:80"):
        yield f"page: Host {host}", _ended(lambda host=host: _verdict(*_ask("GET", "/about", Host=host), True))
    for origin in ("http://evil.example", "null", "", "http://127.0.0.1", "https://localhost", "file://"):
        yield f"page: Origin {origin}", _ended(lambda origin=origin: _verdict(
            *_ask("POST", "/visit", Origin=origin), False))
    for site in ("cross-site", "same-site"):
        yield f"page: {site}", _ended(lambda site=site: _verdict(*_ask("GET", "/about", Sec_Fetch_Site=site), False))
    for path in ("/../setup.cfg", "/%2e%2e/setup.cfg", "//etc/passwd", "/visit/" + "A" * 43 + "/face.ply", "/serve.py",
                 "/" + "x" * 5000, "/visit/../about", "/\0"):
        lines = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        yield f"page: GET {path[:30]!r}", _ended(lambda lines=lines: _raw(lines))


def _raw(data: bytes) -> str:
    """Bytes that are no good request: an error's status, or a closed connection."""
    with socket.create_connection(("127.0.0.1", _port()), timeout=SECONDS) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        answer = link.recv(2**16)
    status = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    if status is None:          # to what is no HTTP/1.0 the words come without a status
        return "wrong" if answer and b'{"error"' not in answer else "clear"
    return "wrong" if int(status[1]) < 400 else "traceback" if int(status[1]) == 500 else "clear"


def _lines() -> Iterator[tuple[str, Case]]:
    """First lines that are broken, by rule and at random."""
    own = b"Host: localhost\r\nOrigin: http://localhost\r\n"
    for data in (b"", b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0" * 50,
                 b"DELETE / HTTP/1.1\r\n" + own + b"\r\n",
                 b"GET /about HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
                 b"GET /about HTTP/1.1\r\nx: " + b"y" * 10**6 + b"\r\n\r\n",
                 b"GET http://[x HTTP/1.1\r\n" + own + b"\r\n",
                 b"POST /visit/x/face HTTP/1.1\r\n" + own + b"Content-Length: -1\r\n\r\n",
                 b"POST /none HTTP/1.1\r\n" + own + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
                 b"POST /none HTTP/1.1\r\n" + own + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 b"POST /none HTTP/1.1\r\n" + own + b"Content-Length: 99999999999999999999\r\n\r\n"):
        yield f"page: lines {data[:24]!r}", _ended(lambda data=data: _raw(data))
    good = b"POST /none?network=compact HTTP/1.1\r\n" + own + b"X-Photo-Sizes: 3\r\nContent-Length: 3\r\n\r\nabc"
    for seed in range(40):
        yield f"page: lines, mutant {seed}", _ended(lambda seed=seed: _raw(_mutant(good, seed)))


def _sizes() -> Iterator[tuple[str, Case]]:
    photo = _blank("PNG")
    for sizes in ("", "-1", "0", "7", "x", "1," * 2000 + "1", "9" * 400, f"{len(photo)},0", "1e3", "٣"):
        yield f"page: sizes {sizes[:20]}", _ended(lambda sizes=sizes: _verdict(
            *_upload(photo, X_Photo_Sizes=sizes.encode("utf-8").decode("latin-1")), False))


def _photos() -> Iterator[tuple[str, Case]]:
    """Whole files: good ones of all formats that are taken, and others."""
    for kind in ("JPEG", "PNG", "WEBP"):
        yield f"page: a {kind}", _ended(lambda kind=kind: _verdict(*_upload(_blank(kind)), True))
    for kind in ("EPS", "DDS", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "PCX", "ICO", "SGI", "PDF"):
        yield f"page: a {kind}", _ended(lambda kind=kind: _verdict(*_upload(_blank(kind)), False))
    bad = {"nothing": b"", "zeros": bytes(10**6), "FF": b"\xff" * 10**6,
           "a JPEG of FF": _blank("JPEG")[:2] + b"\xff" * 10**6, "a JPEG of many scans": _many_scans(),
           "a JPEG of zeros": _blank("JPEG")[:2] + bytes(2 * 10**7),
           "a JPEG of small segments": _blank("JPEG")[:2] + b"\xff\xfe\0\2" * 5 * 10**6 + _blank("JPEG")[2:],
           "a PNG of small chunks": _small_chunks(), "a GIF of comments": _comments(),
           "81 megapixels": _png_header(9000, 9000), "10^12 pixels": _png_header(10**6, 10**6),
           "a cut PNG of 25 megapixels": _png_header(5001, 5000), "no pixels": _png_header(0, 7),
           "text": b"GIF89a" + b"x" * 99,
           "XML": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><svg>&a;</svg>"}
    for name, data in bad.items():
        yield f"page: {name}", _ended(lambda data=data: _verdict(*_upload(data), False))


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def _small_chunks() -> bytes:
    """A PNG with a million empty chunks, each of which a reader in Python reads."""
    data = _blank("PNG")
    return data[:33] + (b"\0\0\0\0zzZz" + struct.pack(">I", zlib.crc32(b"zzZz"))) * 10**6 + data[33:]


def _comments() -> bytes:
    """A GIF with 15 MB of comment: one that joins its parts one by one takes minutes."""
    data = _blank("GIF", mode="P")
    at = data.index(b",", 13)
    return data[:at] + b"\x21\xfe" + (b"\xff" + b"c" * 255) * 60_000 + b"\0" + data[at:]


def _many_scans() -> bytes:
    """A progressive JPEG whose last scan comes 20,000 times: 2 MB that take minutes to decode."""
    data = _blank("JPEG", (4000, 4000), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 20_000 + data[-2:] if len(data) - last < 1000 else data[:last] * 2


def _mutant(data: bytes, seed: int) -> bytes:
    """Some bytes changed, taken out, or repeated; cut off at times."""
    chance, out = random.Random(seed), bytearray(data)
    for _ in range(chance.randint(1, 12)):
        at, how = chance.randrange(len(out)), chance.random()
        if how < 0.6:
            out[at] = chance.choice((0, 255, 127, chance.randrange(256)))
        elif how < 0.8:
            del out[at:at + chance.randint(1, 9)]
        else:
            out[at:at] = out[at:at + chance.randint(1, 30)]
        out = out or bytearray(b"x")
    return bytes(out[:chance.randrange(len(out))] if chance.random() < 0.2 else out)


def _mutants() -> Iterator[tuple[str, Case]]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 4), np.uint8), "RGBA")
    for kind, mode in (("JPEG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("PNG", "RGB")):
        data = io.BytesIO()
        noise.convert(mode).save(data, kind)
        for seed in range(MUTANTS):
            yield f"page: {kind} {mode}, mutant {seed}", _ended(
                lambda data=data.getvalue(), seed=seed: _either(_mutant(data, seed)))


def _either(photo: bytes) -> str:
    """A photo that may or may not be whole."""
    status, data = _upload(photo)
    return _verdict(status, data, status < 400)


def _twenty() -> str:
    photo = _blank("PNG")
    _port()         # one server, before twenty threads ask for it
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: _upload(photo, 95), range(20)))
    found = ["wrong" if answer[0] == 503 else _verdict(*answer, True) for answer in answers]
    return next((verdict for verdict in found if verdict != "fine"), "fine")


@_ended
def _idle() -> str:
    links = [socket.create_connection(("127.0.0.1", _port()), timeout=SECONDS) for _ in range(300)]
    try:
        return _verdict(*_upload(_blank("PNG"), 5), True)
    except ConnectionError:
        return "hang"
    finally:
        for link in links:
            link.close()


def _drips() -> str:
    """Four uploads that drip for 40 s; a good one meanwhile, and an end to the four."""
    photo, port = _blank("PNG", (500, 500)), _port()
    links = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(4)]
    for link in links:
        link.sendall(f"POST /visit/{_open_session()}/face?network=compact HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                     f"Origin: http://127.0.0.1:{port}\r\nX-Photo-Sizes: 5000\r\nContent-Length: 5000\r\n\r\n"
                     .encode())
    good, cut = "hang", 0
    for second in range(40):
        for link in list(links):
            try:
                link.sendall(b"x")
            except OSError:
                links.remove(link)
                cut += 1
        if second == 2:
            answer = _upload(photo, 10)
            good = "wrong" if answer[0] == 503 else _verdict(*answer, True)
        if cut == 4:
            break
        time.sleep(1)
    return good if cut == 4 else "hang"


def _dripping_head() -> str:
    with socket.create_connection(("127.0.0.1", _port()), timeout=SECONDS) as link:
        try:
            for byte in b"GET /about HTTP/1.1\r\nHost: localhost\r\n" * 2:
                link.sendall(bytes([byte]))
                time.sleep(1)
        except ConnectionError:
            return "clear"
    return "hang"


def _memory(photo: bytes) -> str:
    """A large photo: served or refused, in less than a gigabyte more than before."""
    path = Path("/proc/self/clear_refs")
    try:
        path.write_text("5")            # the peak is measured from here
    except OSError:
        pass
    before = _peak()
    verdict = _either(photo)
    return verdict if _peak() - before < 2**30 else "wrong"


def _peak() -> int:
    """Bytes."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
