"""A web page on this machine that turns photos, or the webcam, into a face: `serve(reconstruct, networks, ...)`.

The paper of Baby et al. 2020 has a small window to pick a file; ours runs in the visitor's browser. It knows no
network: what makes faces is a callable that it is handed.

The server is Python's own `http.server`, a thread a connection. Starlette with uvicorn was considered. Idle connections
would cost less there, but what this page needs beyond a dozen answers would be ours as well: a time for a request's
first lines, a least rate of uploads, fair turns, bounded bytes, the end of work that nobody waits for, answers at the
end of the program. That is the larger part of the code, it is shorter with threads that wait, and five packages more
would have to be trusted.

Who may ask is in Evaluation/web/senders.py. It binds to 127.0.0.1 unless told otherwise. What a visitor sends is
bounded before it is read, and before it is decoded (limits.py); idle connections give way to others (connections.py);
faces are made one after the other, in turns that are fair to clients (quotas.py). Photos are forgotten when the face is
made; the face lives in memory until the page is left, or is silent for some minutes (sessions.py). The requests are in
requests.py.
"""
from __future__ import annotations

import json
import logging
import signal
import socket
import socketserver
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

from Evaluation.web.connections import Connections
from Evaluation.web.limits import Limits
from Evaluation.web.requests import PAGE, STOPPED, Handler, Reconstruct
from Evaluation.web.senders import Own, is_host, is_page_url
from Evaluation.web.sessions import Sessions
from Evaluation.web.quotas import Quota

log = logging.getLogger(__name__)
ASSETS = Path(__file__).parent / "assets"
_BODY = json.dumps({"error": STOPPED})
STOPPED_ANSWER = (f"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}").encode("ascii")


@dataclass(frozen=True)
class ServeConfig:
    """The page's address."""

    host: str = "127.0.0.1"     # 0.0.0.0: for everyone who can reach this machine, without encryption
    port: int = 8000            # 0: any free one
    public_url: str = ""        # the page's own address where a proxy on this machine serves it: https://faces.example

    def __post_init__(self) -> None:
        if not is_host(self.host):
            raise ValueError("host must be an address or a name, 0.0.0.0 for every one that this machine has, got "
                             f"{ascii(self.host)[:80] if self.host else 'none'}")
        if not isinstance(self.port, int) or not 0 <= self.port < 65536:
            raise ValueError(f"port must be 0 (any free one) to 65535, got {self.port}")
        if self.public_url and not is_page_url(self.public_url):
            raise ValueError("public_url must be like https://faces.example, without a path, or with a port from 1 to "
                             f"65535, got {ascii(self.public_url)[1:-1][:80]}")


class FaceServer(ThreadingHTTPServer):
    """One thread a connection, a bounded number of them; one face at a time. OSError when the address is taken."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, config: ServeConfig, reconstruct: Reconstruct, networks: Mapping[str, str],
                 limits: Limits = Limits()) -> None:
        self.config, self.reconstruct, self.networks, self.limits = config, reconstruct, dict(networks), limits
        self.own = Own(config.host, config.public_url)
        self.sessions = Sessions(limits.sessions, limits.idle_seconds, limits.visit_seconds, limits.client_sessions,
                                 limits.kept_bytes)
        self.connections, self.stopping = Connections(limits), threading.Event()
        self.turn, self.uploads = Quota(1), Quota(limits.held_bytes, limits.client_bytes)
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
        if not self.connections.admit(request, client_address[0]):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:           # no more threads
            self.connections.leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection ended early", exc_info=True)

    def finish(self) -> None:
        """After `serve_forever`: nobody new is let in, who waits is refused, the photo at work is finished; whoever has
        no answer after `Limits.stop_seconds` is refused, too. The photo is waited for all the same: a process that ends
        while a thread is in a library's code may end by a signal."""
        self.stopping.set()
        self.socket.close()
        for connection in self.connections:
            connection.cut() if connection.idle else connection.deafen()
        if self.connections.wait(self.limits.stop_seconds):
            return
        for connection in self.connections:
            if connection.claim():
                connection.say(STOPPED_ANSWER)
            connection.cut()
        self.connections.wait(self.limits.turn_seconds)


@contextmanager
def _ended_by_signals(server: FaceServer) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends `serve_forever`, a second one the program. In the main thread; elsewhere no
    signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(number: int, frame: Any) -> None:
        for other, handler in before.items():
            signal.signal(other, handler)
        threading.Thread(target=server.shutdown, daemon=True).start()       # it waits for the loop that runs here
    try:
        for number in before:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(reconstruct: Reconstruct, networks: Mapping[str, str], config: ServeConfig = ServeConfig(),
          announce: Callable[[str], None] = log.info, limits: Limits = Limits()) -> None:
    """Answer visitors until Ctrl-C or SIGTERM; requests under way then get an answer (`FaceServer.finish`).

    networks  name -> what the page says of it, the one to begin with first
    announce  is told the page's address once it can be opened
    OSError, or ValueError, when the address cannot be had.
    """
    try:
        server = FaceServer(config, reconstruct, networks, limits)
    except (OSError, OverflowError) as error:
        raise OSError(f"{config.host}:{config.port}: cannot be served at ({error}); try another --port, or 0") from None
    with server, _ended_by_signals(server):
        announce(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:       # between two signals' handlers
            pass
        server.finish()
