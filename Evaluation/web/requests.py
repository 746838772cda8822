"""The requests that Evaluation/web/serve.py answers: who may ask, how much, and what comes back.

    GET  /  /serve.css  /serve.js  /mesh.js     the page
    GET  /about                                 networks and limits
    POST /visit                                 -> {"visit": TOKEN}
    POST /visit/TOKEN/face?network=NAME         photos, one behind the other; X-Photo-Sizes: 1234,5678 -> what there is
    GET  /visit/TOKEN/NAME                      a file of the face; mesh.bin is what the page draws
    POST /visit/TOKEN/stay, /visit/TOKEN/leave  each minute; when the page is left
"""
from __future__ import annotations

import io
import json
import logging
import re
import socket
import struct
import threading
import time
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Protocol, Sequence
from urllib.parse import parse_qs, urlsplit

import numpy as np

from Dataset.geometry.mesh import Mesh
from Dataset.geometry.normals import vertex_normals
from Dataset.io.images import decode_image, image_header
from Dataset.io.mesh_files import check_geometry
from Evaluation.web.connections import Connections, client_of
from Evaluation.web.limits import Limits, Refused
from Evaluation.web.senders import Own, check_host, check_origin, forwarded_for
from Evaluation.web.sessions import Sessions
from Evaluation.web.quotas import Quota

log = logging.getLogger(__name__)
PAGE = {"/": ("serve.html", "text/html"), "/serve.css": ("serve.css", "text/css"),
        "/serve.js": ("serve.js", "text/javascript"), "/mesh.js": ("mesh.js", "text/javascript")}
KINDS = {".ply": "application/octet-stream", ".zip": "application/zip", ".glb": "model/gltf-binary",
         ".bin": "application/octet-stream"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src blob: data:; media-src blob: mediastream:; base-uri 'none'; "
                               "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()", "Cache-Control": "no-store"}
TOKEN = r"/visit/([A-Za-z0-9_-]{43})/"
#: Pillow's names of the formats that are taken: those of photos that browsers show. Fewer readers meet foreign bytes
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")
JPEGS = ("JPEG", "MPO")
STOPPED = "the program that makes the faces was ended"


class Answer(Protocol):
    """What `reconstruct` gives: the mesh to look at, files to take away by name, and which photos showed no face."""

    mesh: Mesh
    files: Mapping[str, bytes]
    skipped: Sequence[int]


#: images, each (H, W, 3) uint8 BGR, and a network's name -> Answer; ValueError with words for the visitor. The images
#: are decoded one by one as they are asked for, which raises `Refused` where the visitor is gone or the time is over
Reconstruct = Callable[[Iterable[np.ndarray], str], Answer]


class Service(Protocol):
    """What a `Handler` uses of its server, `Evaluation.web.serve.FaceServer`. networks: name -> description; assets:
    path -> the page's bytes; turn: held while a face is made; uploads: bytes of the photos that are held; stopping:
    set when the program ends."""

    own: Own
    limits: Limits
    networks: Mapping[str, str]
    assets: Mapping[str, bytes]
    sessions: Sessions
    connections: Connections
    reconstruct: Reconstruct
    turn: Quota
    uploads: Quota
    stopping: threading.Event


class Gone(ConnectionError):
    """The visitor has closed the connection: nobody reads an answer."""


def mesh_bytes(mesh: Mesh) -> bytes:
    """What assets/mesh.js draws. uint32 V, F, 1 with colours; float32 (V, 3) places, (V, 3) normals (0 in a cloud);
    uint32 (F, 3) corners; uint8 (V, 4) colours RGBA. Little-endian. ValueError for a mesh that is broken or empty."""
    check_geometry("face", mesh)
    if not len(mesh.vertices):
        raise ValueError("face: has no points")
    normals = vertex_normals(mesh.vertices, mesh.triangles) if len(mesh.triangles) else np.zeros_like(mesh.vertices)
    parts = [struct.pack("<III", len(mesh.vertices), len(mesh.triangles), mesh.colours is not None),
             np.asarray(mesh.vertices, "<f4").tobytes(), np.asarray(normals, "<f4").tobytes(),
             np.asarray(mesh.triangles, "<u4").tobytes()]
    if mesh.colours is not None:
        parts.append(np.concatenate([mesh.colours, np.full((len(mesh.colours), 1), 255, np.uint8)], axis=1).tobytes())
    return b"".join(parts)


class Handler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0). Every answer that is not a file or the page is JSON."""

    server: Service
    server_version, sys_version = "faces3d", ""
    error_message_format, error_content_type = '{"error": "no such request here (%(code)d)"}', "application/json"

    def setup(self) -> None:
        self.connection, self.link = self.request, self.server.connections[self.request]
        self.rfile, self.wfile = io.BufferedReader(self.link.stream, 2**14), self.link.stream

    def parse_request(self) -> bool:
        """As the base class; then the request counts as one of its client's."""
        good = super().parse_request()
        if good:
            self.link.client = client_of(forwarded_for(self.headers, self.client_address[0], self.server.own))
            self.link.idle = False
            self.link.stream.expect_body()
        return good

    def log_message(self, *words: Any) -> None:
        """Nothing: addresses of visitors and their tokens are nobody's business."""

    def version_string(self) -> str:
        return self.server_version

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, route: Callable[[], None]) -> None:
        self.unread = 0
        try:
            self.unread = self._length()
            try:
                self.url = urlsplit(self.path)
            except ValueError:
                raise Refused(HTTPStatus.BAD_REQUEST, "the address is none") from None
            self._check_sender()
            route()
        except Refused as refusal:
            self._send_json({"error": refusal.words}, refusal.status)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:       # ours to mend; the visitor must not be left without an answer
            log.exception("a request failed")
            self._send_json({"error": "something went wrong here; the terminal says what"},
                            HTTPStatus.INTERNAL_SERVER_ERROR)
        if self.unread:
            self._discard()

    def _length(self) -> int:
        """Bytes of the body. Refused when that is not said, or not in one way."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) > 1:
            self.unread = self.server.limits.upload_bytes
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request must say its length once, in Content-Length")
        if lengths and not re.fullmatch(r"[0-9]{1,15}", lengths[0]):
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length must be a number")
        return int(lengths[0]) if lengths else 0

    def _check_sender(self) -> None:
        """Refused for a name that could be rebound to this machine, for other sites' pages, and for one request more
        than a client may have under way."""
        check_host(self.headers.get("Host", ""), self.connection.getsockname()[0], self.server.own)
        changes = self.command == "POST"
        check_origin(self.headers, changes, not changes and self.url.path == "/", self.server.own)
        limit = self.server.limits.client_requests
        if self.server.connections.requests_of(self.link.client) > limit:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, f"{limit} of your requests are under way already; try again "
                          "when they are answered")

    def _check_wanted(self, token: str) -> None:
        """Ends work that nobody waits for any more: `Gone`, or Refused."""
        if self.server.stopping.is_set():
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, STOPPED)
        if self.link.gone():
            raise Gone("the visitor has left")
        if not self.server.sessions.stay(token):
            raise Refused(HTTPStatus.NOT_FOUND, "the page was left while its face was made")

    def _get(self) -> None:
        path = self.url.path
        if path in PAGE:
            return self._send(self.server.assets[path], f"{PAGE[path][1]}; charset=utf-8")
        if path == "/about":
            limits = self.server.limits
            return self._send_json({"networks": self.server.networks, "photos": limits.photos,
                                    "photoBytes": limits.photo_bytes, "uploadBytes": limits.upload_bytes})
        wanted = re.fullmatch(TOKEN + r"([a-z0-9_]{1,32}\.[a-z]{3})", path)
        data = self.server.sessions.file(*wanted.groups()) if wanted else None
        if data is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here, or no longer")
        name = wanted[2]
        self._send(data, KINDS.get(Path(name).suffix, "application/octet-stream"),
                   {"Content-Disposition": f'attachment; filename="{name}"'})

    def _post(self) -> None:
        url, sessions = self.url, self.server.sessions
        if url.path == "/visit":
            token = sessions.open(self.link.client)
            if token is None:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE,
                              "too many pages are open already; close one, or try again in a few minutes")
            return self._send_json({"visit": token})
        asked = re.fullmatch(TOKEN + "(face|stay|leave)", url.path)
        if asked is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
        token, what = asked.groups()
        if what == "leave":
            sessions.leave(token)
        elif not sessions.stay(token):
            raise Refused(HTTPStatus.NOT_FOUND, "this visit is over; make the face again")
        if what == "face":
            return self._face(token, parse_qs(url.query).get("network", [""])[0])
        self._send_json({})

    def _face(self, token: str, network: str) -> None:
        if network not in self.server.networks:
            raise Refused(HTTPStatus.BAD_REQUEST, f"network must be one of {', '.join(self.server.networks)}")
        sizes = self._sizes()
        with self._held(self.server.uploads, self.unread, token):
            body = self._read()
            self._check_headers(body, sizes)
            with self._held(self.server.turn, 1, token):
                answer = self._make(body, sizes, network, token)
        try:
            files = {**answer.files, "mesh.bin": mesh_bytes(answer.mesh)}
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"these photos give no face that can be shown ({error})"
                          ) from None
        if sum(map(len, files.values())) > self.server.limits.answer_bytes:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "the face is too large to be kept for you")
        if not self.server.sessions.keep(token, files):
            raise Refused(HTTPStatus.NOT_FOUND, "the page was left while its face was made")
        self._send_json({"files": {name: len(data) for name, data in files.items() if name != "mesh.bin"},
                         "skipped": [int(i) for i in answer.skipped], "points": len(answer.mesh.vertices),
                         "triangles": len(answer.mesh.triangles)})

    def _sizes(self) -> list[int]:
        """Bytes of each photo, as the request says. Refused, before anything is read, where they are out of bounds."""
        limits, text = self.server.limits, self.headers.get("X-Photo-Sizes", "")
        if not self.headers.get_all("Content-Length"):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request must say its length")
        if self.unread > limits.upload_bytes:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                          f"all photos together may have {limits.upload_bytes / 2**20:g} MB, "
                          f"these have {self.unread / 2**20:.0f}")
        if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9}){0,999}", text):
            raise Refused(HTTPStatus.BAD_REQUEST, "X-Photo-Sizes must hold each photo's number of bytes")
        sizes = [int(size) for size in text.split(",")]
        if len(sizes) > limits.photos:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                          f"a face is made from 1 to {limits.photos} photos, these are {len(sizes)}")
        for i, size in enumerate(sizes):
            if size > limits.photo_bytes:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"photo {i + 1}: may have "
                              f"{limits.photo_bytes / 2**20:g} MB, has {size / 2**20:.0f}")
        if sum(sizes) != self.unread:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the photos have {sum(sizes)} bytes, the request {self.unread}")
        return sizes

    @contextmanager
    def _held(self, quota: Quota, amount: int, token: str) -> Iterator[None]:
        """Run the body with a share of the bytes or the turn. Refused when it was not had in time."""
        seconds = self.server.limits.wait_seconds
        with ExitStack() as stack:
            try:
                stack.enter_context(quota.held(self.link.client, amount, seconds, lambda: self._check_wanted(token)))
            except TimeoutError:
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "other faces are being made; try again in a moment"
                              ) from None
            yield

    def _read(self) -> bytes:
        wanted = self.unread
        self.link.stream.expect_body()          # the time of the wait is not the visitor's
        try:
            body = self.rfile.read(wanted)
        except TimeoutError:
            body = b""
        self.unread = 0
        if self.server.stopping.is_set():
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, STOPPED)
        if len(body) != wanted:
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the photos did not arrive whole, or too slowly; try again")
        return body

    def _check_headers(self, body: bytes, sizes: Sequence[int]) -> None:
        """Refused, before the wait and before a pixel is decoded, for what is no photo or too large a one."""
        limits = self.server.limits
        try:
            for name, data in _photos(body, sizes):
                width, height = (header := image_header(data, name, limits.pixels, FORMATS)).size
                if header.format not in JPEGS and width * height > limits.whole_pixels:
                    raise ValueError(f"{name}: an image that is no JPEG may have at most {limits.whole_pixels / 1e6:g} "
                                     f"megapixels, this has {width * height / 1e6:.1f}")
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None

    def _make(self, body: bytes, sizes: Sequence[int], network: str, token: str) -> Answer:
        limits = self.server.limits
        until = time.monotonic() + limits.turn_seconds

        def images() -> Iterator[np.ndarray]:
            for name, data in _photos(body, sizes):
                self._check_wanted(token)
                if time.monotonic() > until:
                    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the face was not made within "
                                  f"{limits.turn_seconds:g} s; try fewer photos")
                yield decode_image(data, name, limits.pixels, limits.side, FORMATS)
            self._check_wanted(token)
        try:
            return self.server.reconstruct(images(), network)
        except ValueError as error:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except MemoryError:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "not enough memory here; try fewer or smaller photos"
                          ) from None

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode("ascii"), "application/json", status=status)

    def _send(self, data: bytes, kind: str, more: Mapping[str, str] = {}, status: HTTPStatus = HTTPStatus.OK) -> None:
        if not self.link.claim():
            raise Gone("somebody else has answered")
        self.send_response(status)
        for name, value in {**more, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def _discard(self) -> None:
        """Take in what a refused visitor still sends, up to a bound: a closed connection would lose the words."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(2)
        end, left = time.monotonic() + 10, min(self.unread, 4 * self.server.limits.upload_bytes)
        while left > 0 and time.monotonic() < end:
            try:
                got = len(self.connection.recv(2**16))
            except OSError:
                return
            if not got:
                return
            left -= got


def _photos(body: bytes, sizes: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each photo of a request."""
    start = 0
    for i, size in enumerate(sizes):
        yield f"photo {i + 1}", body[start:start + size]
        start += size
