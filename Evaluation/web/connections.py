"""The open connections of the page's server: how many, whose, how fast, and which of them is given up for another."""
from __future__ import annotations

import io
import math
import socket
import threading
import time
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Iterator

from Evaluation.web.limits import Limits


class Connection:
    """One connection. socket: of it; client: `client_of` its other end; idle: no whole request has begun yet."""

    def __init__(self, connection: socket.socket, client: str, limits: Limits) -> None:
        self.socket, self.client, self.idle, self.cut_off = connection, client, True, False
        self.began = time.monotonic()
        self.stream = PacedStream(connection, limits)
        self._answering = threading.Lock()

    def claim(self) -> bool:
        """Whether the caller may answer: True for the first who asks."""
        return self._answering.acquire(blocking=False)

    def gone(self) -> bool:
        """Whether the other end has closed the connection. Called by the thread that reads it."""
        try:
            self.socket.settimeout(0)
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def say(self, data: bytes) -> None:
        """Send a few bytes, if the other end takes them at once. Any thread that has the `claim`."""
        try:
            self.socket.settimeout(0)
            self.socket.send(data)
        except OSError:
            pass

    def deafen(self) -> None:
        """Nothing more is read: who waits for a body has what there is. Any thread."""
        self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """Close it in both directions. Any thread."""
        self.cut_off = True
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            self.socket.shutdown(how)
        except OSError:             # closed already
            pass


class PacedStream(io.RawIOBase):
    """A connection as a stream, for its one thread. What comes in has so many seconds and, from `expect_body` on, one
    more for every `Limits.rate` bytes that have come; what goes out likewise: TimeoutError, of which
    `http.server` closes the connection."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        super().__init__()
        self._socket, self._limits, self._taken = connection, limits, 0
        self._began, self._seconds, self._rate = time.monotonic(), limits.head_seconds, math.inf

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def expect_body(self) -> None:
        """The request's first lines are there."""
        self._began, self._seconds, self._rate = time.monotonic(), self._limits.pause_seconds, self._limits.rate
        self._taken = 0

    def readinto(self, buffer: memoryview) -> int:
        left = self._began + self._seconds + self._taken / self._rate - time.monotonic()
        if left <= 0:
            raise TimeoutError("it comes too slowly")
        if self._rate == math.inf and self._taken >= MAX_HEAD:
            raise ConnectionAbortedError("the request's first lines are too long")
        self._socket.settimeout(left)
        count = self._socket.recv_into(buffer)
        self._taken += count
        return count

    def write(self, data: bytes) -> int:
        self._socket.settimeout(self._limits.pause_seconds + len(data) / self._limits.rate)
        self._socket.sendall(data)
        return len(data)


MAX_HEAD = 2**16        # bytes of a request's first lines


class Connections:
    """At most `limits.connections`. Any thread may call it."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._changed = limits, threading.Condition()
        self._open: dict[socket.socket, Connection] = {}

    def __iter__(self) -> Iterator[Connection]:
        with self._changed:
            return iter(list(self._open.values()))

    def __getitem__(self, connection: socket.socket) -> Connection:
        with self._changed:
            return self._open[connection]

    def admit(self, connection: socket.socket, address: str) -> bool:
        """Whether there is room for one more. Where there is none the oldest idle one is cut off, of the client who has
        most of them: whoever opens connections and says nothing keeps nobody out."""
        new = Connection(connection, client_of(address), self._limits)
        with self._changed:
            counted = [one for one in self._open.values() if not one.cut_off]
            if len(counted) >= self._limits.connections:
                idle = [one for one in counted if one.idle]
                if not idle:
                    return False
                many = Counter(one.client for one in idle)
                max(idle, key=lambda one: (many[one.client], -one.began)).cut()
            self._open[connection] = new
            return True

    def requests_of(self, client: str) -> int:
        """How many requests of a client are under way."""
        return sum(not one.idle and one.client == client for one in self)

    def leave(self, connection: socket.socket) -> None:
        """It is closed."""
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Until all are closed, at most so long -> whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, seconds)


def client_of(address: str) -> str:
    """Who asks from an address: an IPv4 address, or the /64 of an IPv6 address, which is one household's."""
    try:
        found = ip_address(address.split("%")[0])
    except ValueError:
        return address
    found = getattr(found, "ipv4_mapped", None) or found
    return f"{IPv6Address(int(found) >> 64 << 64)}/64" if found.version == 6 else str(found)
