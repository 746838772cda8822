"""Evaluation/web/serve.py: who may ask, how much, and what a refused visitor reads."""
import contextlib
import http.client
import json
import re
import socket
import struct
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from Dataset.geometry.mesh import Mesh
from Evaluation.web.limits import Limits
from Evaluation.web.requests import mesh_bytes
from Evaluation.web.serve import FaceServer, ServeConfig
from Evaluation.web.sessions import Sessions

TRIANGLE = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]),
                colours=np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8))
SMALL = Limits(photos=3, photo_bytes=4000, upload_bytes=9000, pixels=10_000, whole_pixels=10_000, side=64,
               answer_bytes=50_000, wait_seconds=0.2, head_seconds=5, pause_seconds=5, sessions=2)


def png(value: int = 90, size: tuple[int, int] = (20, 30)) -> bytes:
    return cv2.imencode(".png", np.full((*size, 3), value, np.uint8))[1].tobytes()


class Fake:
    """Stands for a network: remembers what it was given, answers, or raises, what it was given."""

    def __init__(self) -> None:
        self.images, self.network, self.wait = [], "", threading.Event()
        self.answer = SimpleNamespace(mesh=TRIANGLE, files={"face.ply": b"ply of it"}, skipped=[1])
        self.wait.set()

    def __call__(self, images, network):
        self.images, self.network = list(images), network
        assert self.wait.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def fake():
    return Fake()


@contextlib.contextmanager
def serving(fake, limits=SMALL):
    with FaceServer(ServeConfig(port=0), fake, {"compact": "small", "other": "large"}, limits) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server(fake):
    with serving(fake) as running:
        yield running


def ask(server, method, path, body=None, **headers):
    """(status, headers, bytes) of a request; POSTs come from our own page unless `Origin` is given (None: none)."""
    port = server.server_address[1]
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if method == "POST":
        headers.setdefault("Origin", f"http://{headers.get('Host', f'127.0.0.1:{port}')}")
    link.request(method, path, body, {name: value for name, value in headers.items() if value is not None})
    answer = link.getresponse()
    data = answer.read()
    link.close()
    return answer.status, answer.headers, data


def open_session(server) -> str:
    status, _, data = ask(server, "POST", "/visit")
    assert status == 200
    return json.loads(data)["visit"]


def face(server, token, *photos, network="compact", **headers):
    headers.setdefault("X_Photo_Sizes", ",".join(str(len(photo)) for photo in photos))
    return ask(server, "POST", f"/visit/{token}/face?network={network}", b"".join(photos), **headers)


def words(answer) -> str:
    return json.loads(answer[2])["error"]


def wait_for(done, seconds: float = 20) -> None:
    """Until `done()`; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_session_from_photos_to_files_to_nothing(server, fake):
    token = open_session(server)
    status, _, data = face(server, token, png(10), png(200, (90, 40)), network="other")
    assert status == 200
    assert json.loads(data) == {"files": {"face.ply": 9}, "skipped": [1], "points": 3, "triangles": 1}
    assert fake.network == "other" and [image.shape for image in fake.images] == [(20, 30, 3), (64, 28, 3)]
    assert (fake.images[0] == 10).all() and (fake.images[1] == 200).all()
    status, headers, data = ask(server, "GET", f"/visit/{token}/face.ply")
    assert (status, data) == (200, b"ply of it")
    assert headers["Content-Disposition"] == 'attachment; filename="face.ply"'
    assert headers["Cache-Control"] == "no-store"
    assert ask(server, "GET", f"/visit/{token}/mesh.bin")[2] == mesh_bytes(TRIANGLE)
    assert ask(server, "POST", f"/visit/{token}/stay")[0] == 200
    assert ask(server, "POST", f"/visit/{token}/leave")[0] == 200
    for method, path in (("GET", "face.ply"), ("POST", "stay"), ("POST", "face")):
        assert ask(server, method, f"/visit/{token}/{path}?network=compact")[0] == 404
    assert len(server.sessions) == 0


def test_the_page_and_its_headers(server):
    for path, kind in (("/", "text/html"), ("/serve.js", "text/javascript"), ("/mesh.js", "text/javascript"),
                       ("/serve.css", "text/css"), ("/about", "application/json"), ("/nothing", "application/json")):
        status, headers, data = ask(server, "GET", path)
        assert status == (404 if path == "/nothing" else 200) and headers["Content-Type"].startswith(kind)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer" and headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Python" not in headers["Server"]
        assert not re.search(rb"https?://", data), path                # asks no other machine
        if kind == "text/html":
            assert not re.search(rb"<script(?! src)|\son\w+=|style=", data)         # nothing that the policy forbids
    assert json.loads(ask(server, "GET", "/about")[2])["networks"] == {"compact": "small", "other": "large"}
    status, headers, data = ask(server, "HEAD", "/")
    assert status == 200 and data == b"" and int(headers["Content-Length"]) > 500
    assert ask(server, "DELETE", "/visit")[0] == 501
    with socket.create_connection(server.server_address[:2], timeout=20) as link:
        link.sendall(b"GET http://[x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.0 400 ")


@pytest.mark.parametrize("path", ["/../setup.cfg", "/assets/serve.js", "/visit/x/face.ply",
                                  "/visit/" + "A" * 43 + "/x.ply", "//etc/passwd", "/%2e%2e/setup.cfg", "/serve.py"])
def test_nothing_else_is_served(server, path):
    assert ask(server, "GET", path)[0] == 404


@pytest.mark.parametrize("host, status", [
    ("127.0.0.1", 200), ("localhost:9", 200), ("LOCALHOST", 200), ("[::1]:80", 200), ("127.9.9.9:8000", 200),
    ("[::ffff:127.0.0.1]", 200), ("192.168.1.5:8000", 403), ("0.0.0.0:8000", 403), ("[::]", 403), ("8.8.8.8", 403),
    ("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("localhost.evil.example", 403), ("", 403)])
def test_a_rebound_name_gets_nothing(server, host, status):
    for method, path in (("GET", "/"), ("GET", "/about"), ("POST", "/visit")):
        assert ask(server, method, path, Host=host)[0] == status
        server.sessions._sessions.clear()


def test_other_sites_get_nothing(server, fake):
    token = open_session(server)
    for origin in ("http://evil.example", "null", None, "http://127.0.0.1", f"http://localhost:{server.server_port}"):
        assert ask(server, "POST", "/visit", Origin=origin)[0] == 403
        answer = face(server, token, png(), Origin=origin)
        assert answer[0] == 403 and "not to another site's" in words(answer)
        assert ask(server, "POST", f"/visit/{token}/leave", Origin=origin)[0] == 403
    assert not fake.images and len(server.sessions) == 1
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert ask(server, "GET", "/about", Sec_Fetch_Site=site)[0] == status
    assert ask(server, "GET", "/", Sec_Fetch_Site="cross-site")[0] == 200       # a link may lead here


@pytest.mark.parametrize("photos, headers, status, message", [
    ([b""], {}, 422, "photo 1: is empty (0 bytes), not an image"),
    ([png(), b"no image at all"], {}, 422, "photo 2: must be an image"),
    ([cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))[1].tobytes()[:-600]], {},
     422, "photo 1: the image is cut off or broken"),
    ([png(1, (101, 100))], {}, 422, "photo 1: an image may have at most 0.01 megapixels"),
    ([b"x" * 4001], {}, 413, "photo 1: may have 0.0038147 MB"),
    ([b"x" * 3001] * 3, {}, 413, "all photos together may have"),
    ([png()] * 4, {}, 413, "a face is made from 1 to 3 photos, these are 4"),
    ([png()], {"X_Photo_Sizes": "7"}, 400, "the photos have 7 bytes"),
    ([png()], {"X_Photo_Sizes": ""}, 400, "X-Photo-Sizes must hold"),
    ([png()], {"X_Photo_Sizes": "-1"}, 400, "X-Photo-Sizes must hold"),
    ([png()], {"X_Photo_Sizes": "1," * 2000 + "1"}, 400, "X-Photo-Sizes must hold"),
    ([], {"X_Photo_Sizes": "0", "Content_Length": "x"}, 400, "Content-Length must be a number"),
    ([png()], {"Transfer_Encoding": "chunked"}, 411, "must say its length once"),
    ([png()], {"network": "vrn"}, 400, "network must be one of compact, other")])
def test_bad_uploads_are_refused_in_words_and_reach_no_network(server, fake, photos, headers, status, message):
    answer = face(server, open_session(server), *photos, **headers)
    assert answer[0] == status and message in words(answer), answer
    assert not fake.images


def test_too_much_is_refused_before_it_is_read_and_the_words_arrive(server, fake):
    """100 MB, of which the visitor sends what he wants: the answer is there all the same."""
    token, port = open_session(server), server.server_address[1]
    link = socket.create_connection(("127.0.0.1", port), timeout=20)
    link.sendall(f"POST /visit/{token}/face?network=compact HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                 f"Origin: http://127.0.0.1:{port}\r\nX-Photo-Sizes: 100000000\r\n"
                 "Content-Length: 100000000\r\n\r\n".encode() + bytes(30_000))
    answer = b""
    while chunk := link.recv(65536):
        answer += chunk
    link.close()
    assert answer.startswith(b"HTTP/1.0 413 ") and b"all photos together may have" in answer


def test_a_visitor_who_stops_sending_is_answered_and_holds_nobody_up(fake):
    with serving(fake, SMALL._replace(head_seconds=0.3, pause_seconds=0.3)) as server:
        token, port = open_session(server), server.server_address[1]
        link = socket.create_connection(("127.0.0.1", port), timeout=20)
        link.sendall(f"POST /visit/{token}/face?network=compact HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                     f"Origin: http://127.0.0.1:{port}\r\nX-Photo-Sizes: 900\r\nContent-Length: 900\r\n\r\n12".encode())
        assert b"408" in link.recv(65536)
        link.close()
        silent = socket.create_connection(("127.0.0.1", port), timeout=20)     # says nothing at all
        assert silent.recv(10) == b""
        silent.close()
        assert face(server, token, png())[0] == 200


@pytest.mark.parametrize("answer, status, message", [
    (ValueError("photo 1: no face found; try a larger photo"), 422, "photo 1: no face found"),
    (MemoryError("a secret of ours"), 503, "not enough memory here"),
    (RuntimeError("a secret of ours"), 500, "something went wrong here"),
    (SimpleNamespace(mesh=TRIANGLE._replace(vertices=TRIANGLE.vertices * np.nan), files={}, skipped=[]), 422, "finite"),
    (SimpleNamespace(mesh=Mesh(np.zeros((0, 3))), files={}, skipped=[]), 422, "has no points"),
    (SimpleNamespace(mesh=TRIANGLE, files={"a.ply": bytes(50_000)}, skipped=[]), 422, "too large to be kept")])
def test_a_network_that_fails_says_so_and_leaves_nothing(server, fake, answer, status, message):
    fake.answer = answer
    token = open_session(server)
    got = face(server, token, png())
    assert got[0] == status and message in words(got) and "secret" not in words(got)
    assert ask(server, "GET", f"/visit/{token}/mesh.bin")[0] == 404
    fake.answer = Fake().answer
    assert face(server, token, png())[0] == 200         # and the next one is served


def test_one_face_at_a_time(server, fake):
    first, second, got = open_session(server), open_session(server), []
    fake.wait.clear()
    thread = threading.Thread(target=lambda: got.append(face(server, first, png(1))))
    thread.start()
    wait_for(lambda: fake.images)
    assert ask(server, "GET", "/about")[0] == 200       # the page itself goes on
    answer = face(server, second, png(2))
    assert answer[0] == 503 and "try again in a moment" in words(answer)
    fake.wait.set()
    thread.join()
    assert got[0][0] == 200 and (fake.images[0] == 1).all()


def test_who_leaves_while_his_face_is_made_leaves_nothing(server, fake):
    token, got = open_session(server), []
    fake.wait.clear()
    thread = threading.Thread(target=lambda: got.append(face(server, token, png())))
    thread.start()
    wait_for(lambda: fake.images)
    assert ask(server, "POST", f"/visit/{token}/leave")[0] == 200
    fake.wait.set()
    thread.join()
    assert got[0][0] == 404 and "was left" in words(got[0]) and len(server.sessions) == 0


def test_only_so_many_sessions(server):
    open_session(server), open_session(server)
    answer = ask(server, "POST", "/visit")
    assert answer[0] == 503 and "too many pages are open already" in words(answer)


def test_sessions_expire_by_themselves():
    now = [0.0]
    sessions = Sessions(limit=2, idle=10, longest=25, clock=lambda: now[0])
    one, two = sessions.open(), sessions.open()
    assert sessions.open() is None and one != two
    assert sessions.keep(one, {"a": b"1"}) and sessions.file(one, "a") == b"1"
    now[0] = 9
    assert sessions.stay(one)
    now[0] = 11
    assert len(sessions) == 1 and not sessions.stay(two) and not sessions.keep(two, {"a": b"2"})
    assert sessions.file(two, "a") is None and sessions.file(one, "b") is None
    now[0] = 20
    assert sessions.stay(one)
    now[0] = 26                                          # longest
    assert not sessions.stay(one) and len(sessions) == 0 and sessions.open()


def test_mesh_bytes_byte_by_byte():
    data = mesh_bytes(TRIANGLE)
    assert struct.unpack("<III", data[:12]) == (3, 1, 1)
    assert struct.unpack("<9f", data[12:48]) == (0, 0, 0, 1, 0, 0, 0, 1, 0)
    assert struct.unpack("<9f", data[48:84]) == (0, 0, 1) * 3
    assert struct.unpack("<3I", data[84:96]) == (0, 1, 2)
    assert data[96:] == bytes([255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255])
    assert len(mesh_bytes(Mesh(TRIANGLE.vertices))) == 12 + 72
