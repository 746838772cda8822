"""What the page of Evaluation/web/serve.py keeps of its visitors: in memory, each under a token nobody can guess, for
as long as the page is open. Nothing is written to a disk."""
from __future__ import annotations

import math
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, Mapping


@dataclass
class _Visit:
    client: str
    began: float
    seen: float
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))


class Sessions:
    """At most `limit` sessions, `per_client` of one client; each ends `idle` seconds after it was last heard of, and
    `longest` seconds after it began. All files together have at most `max_bytes`: beyond that the sessions that were
    not heard of for longest lose theirs.

    All methods may be called by any thread. A token that is not known, or no longer, is never an error: the answer is
    False or None.
    """

    def __init__(self, limit: int, idle: float, longest: float, per_client: int | None = None,
                 max_bytes: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._idle, self._longest, self._clock = limit, idle, longest, clock
        self._per_client, self._max_bytes = limit if per_client is None else per_client, max_bytes
        self._lock = threading.Lock()
        self._sessions: dict[str, _Visit] = {}

    def __len__(self) -> int:
        self.expire()
        with self._lock:
            return len(self._sessions)

    def open(self, client: str = "") -> str | None:
        """A new token (256 random bits); None when there are `limit` already, or the client's `per_client`."""
        self.expire()
        with self._lock:
            if len(self._sessions) >= self._limit \
                    or sum(session.client == client for session in self._sessions.values()) >= self._per_client:
                return None
            token, now = secrets.token_urlsafe(32), self._clock()
            self._sessions[token] = _Visit(client, now, now)
            return token

    def stay(self, token: str) -> bool:
        """Whether the session goes on; it does for another `idle` seconds."""
        self.expire()
        with self._lock:
            if token in self._sessions:
                self._sessions[token].seen = self._clock()
            return token in self._sessions

    def keep(self, token: str, files: Mapping[str, bytes]) -> bool:
        """Give a session its files in place of those it had. False, and nothing is kept, when the visitor has left."""
        if not self.stay(token):
            return False
        with self._lock:
            if token not in self._sessions:
                return False
            kept = self._sessions[token]
            kept.files = dict(files)
            over = sum(session.size for session in self._sessions.values()) - self._max_bytes
            for session in sorted(self._sessions.values(), key=lambda session: session.seen):
                if over > 0 and session is not kept:
                    over -= session.size
                    session.files = {}
            return True

    def file(self, token: str, name: str) -> bytes | None:
        """A file of a session."""
        if not self.stay(token):
            return None
        with self._lock:
            session = self._sessions.get(token)
            return None if session is None else session.files.get(name)

    def leave(self, token: str) -> None:
        """Forget a session and all it had."""
        with self._lock:
            self._sessions.pop(token, None)

    def expire(self) -> None:
        """Forget the sessions whose time is over."""
        now = self._clock()
        with self._lock:
            for token in [t for t, v in self._sessions.items()
                          if now - v.seen > self._idle or now - v.began > self._longest]:
                del self._sessions[token]
