"""What the page of Evaluation/web/serve.py keeps of its visitors: in memory, each under a token nobody can guess, for
as long as the page is open. Nothing is written to a disk."""
from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Callable, Mapping


@dataclass
class _Visit:
    began: float
    seen: float
    files: dict[str, bytes] = field(default_factory=dict)


class Sessions:
    """At most `most` visits; each ends `idle` seconds after it was last heard of, and `longest` seconds after it began.

    All methods may be called by any thread. A token that is not known, or no longer, is never an error: the answer is
    False or None.
    """

    def __init__(self, limit: int, idle: float, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._idle, self._longest, self._clock = limit, idle, longest, clock
        self._lock = threading.Lock()
        self._sessions: dict[str, _Visit] = {}

    def __len__(self) -> int:
        self.expire()
        with self._lock:
            return len(self._sessions)

    def open(self) -> str | None:
        """A new visit's token (256 random bits); None when there are `most` already."""
        self.expire()
        with self._lock:
            if len(self._sessions) >= self._limit:
                return None
            token, now = secrets.token_urlsafe(32), self._clock()
            self._sessions[token] = _Visit(now, now)
            return token

    def stay(self, token: str) -> bool:
        """Whether the visit goes on; it does for another `idle` seconds."""
        self.expire()
        with self._lock:
            if token in self._sessions:
                self._sessions[token].seen = self._clock()
            return token in self._sessions

    def keep(self, token: str, files: Mapping[str, bytes]) -> bool:
        """Give a visit its files in place of those it had. False, and nothing is kept, when the visitor has left."""
        if not self.stay(token):
            return False
        with self._lock:
            if token in self._sessions:
                self._sessions[token].files = dict(files)
            return token in self._sessions

    def file(self, token: str, name: str) -> bytes | None:
        """A file of a visit."""
        if not self.stay(token):
            return None
        with self._lock:
            visit = self._sessions.get(token)
            return None if visit is None else visit.files.get(name)

    def leave(self, token: str) -> None:
        """Forget a visit and all it had."""
        with self._lock:
            self._sessions.pop(token, None)

    def expire(self) -> None:
        """Forget the visits whose time is over."""
        now = self._clock()
        with self._lock:
            for token in [t for t, v in self._sessions.items()
                          if now - v.seen > self._idle or now - v.began > self._longest]:
                del self._sessions[token]
