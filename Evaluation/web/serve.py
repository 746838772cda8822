"""A web page on this machine that turns photos, or the webcam, into a face: `serve(reconstruct, networks, ...)`.

The paper of Baby et al. 2020 has a small window to pick a file; ours runs in the visitor's browser. The server is
Python's own: the page needs a dozen answers and no framework (Gradio would bring some thirty packages, keep uploads in
a folder, and ask other machines for fonts). It knows no network: what makes faces is a callable that it is handed.

Who may ask. It binds to 127.0.0.1 unless told otherwise. Any web page can make a browser send requests here: a request
must name this machine by an address, `localhost` or the --host (a rebound DNS name is none of them), and what changes
anything must come from our own page (`Origin`). What a visitor sends is bounded before it is read, and before it is
decoded. Photos are forgotten when the face is made; the face lives in memory until the page is left, or is silent for
some minutes (Evaluation/web/sessions.py). Requests and their bounds are in Evaluation/web/requests.py.
"""
from __future__ import annotations

import logging
import socket
import socketserver
import threading
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Mapping

from Evaluation.web.requests import PAGE, Handler, Limits, Reconstruct
from Evaluation.web.sessions import Sessions

log = logging.getLogger(__name__)
ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class ServeConfig:
    """The page's address."""

    host: str = "127.0.0.1"     # 0.0.0.0: for everyone who can reach this machine, without encryption
    port: int = 8000            # 0: any free one

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("host must be an address or a name, 0.0.0.0 for every one that this machine has, got none")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port must be 0 (any free one) to 65535, got {self.port}")


class FaceServer(ThreadingHTTPServer):
    """One thread a connection, a bounded number of them; one face at a time. OSError when the address is taken."""

    daemon_threads = True

    def __init__(self, config: ServeConfig, reconstruct: Reconstruct, networks: Mapping[str, str],
                 limits: Limits = Limits()) -> None:
        self.config, self.reconstruct, self.networks, self.limits = config, reconstruct, dict(networks), limits
        self.sessions = Sessions(limits.sessions, limits.idle_seconds, limits.visit_seconds)
        self.turn, self.uploads = threading.Lock(), threading.BoundedSemaphore(limits.uploads)
        self._slots = threading.BoundedSemaphore(limits.connections)
        self.address_family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        self.assets = {path: (ASSETS / name).read_bytes() for path, (name, _) in PAGE.items()}
        super().__init__((config.host, config.port), Handler)

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.config.host, self.config.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """As HTTPServer, without its look-up of this machine's name, which asks a DNS server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def service_actions(self) -> None:
        """Twice a second: visitors whose time is over are forgotten, asked for or not."""
        self.sessions.expire()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        late = threading.Timer(self.limits.whole_seconds, _cut, [request])
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection ended early", exc_info=True)


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:         # closed already
        pass


def serve(reconstruct: Reconstruct, networks: Mapping[str, str], config: ServeConfig = ServeConfig(),
          announce: Callable[[str], None] = log.info, limits: Limits = Limits()) -> None:
    """Answer visitors until Ctrl-C.

    networks  name -> what the page says of it, the one to begin with first
    announce  is told the page's address once it can be opened
    OSError, or ValueError, when the address cannot be had.
    """
    try:
        server = FaceServer(config, reconstruct, networks, limits)
    except (OSError, OverflowError) as error:
        raise OSError(f"{config.host}:{config.port}: cannot be served at ({error}); try another --port, or 0") from None
    with server:
        announce(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
