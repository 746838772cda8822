"""What a visitor of the page may ask for, and how he is told that he may not."""
from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from Dataset.io.images import MAX_PIXELS


class Limits(NamedTuple):
    """Bounds of the page of Evaluation/web/serve.py. A client is whoever asks from one address."""

    # what is sent
    photos: int = 16
    photo_bytes: int = 20 * 2**20
    upload_bytes: int = 64 * 2**20      # all photos of one face together
    pixels: float = MAX_PIXELS          # of one JPEG, which is decoded at a part of its size
    whole_pixels: float = 25e6          # of one photo in another format, which is decoded whole
    side: int = 2048                    # px: a larger photo is reduced to it
    # what is kept
    held_bytes: int = 256 * 2**20       # photos that have arrived, or are about to, of all visitors
    client_bytes: int = 128 * 2**20     # of those, one client's
    answer_bytes: int = 64 * 2**20      # all files of one face together
    kept_bytes: int = 512 * 2**20       # files of all visits
    sessions: int = 64
    client_sessions: int = 32
    # at the same time; one face is made at a time
    connections: int = 128
    client_requests: int = 48
    # seconds
    head_seconds: float = 10            # for a request's first lines
    pause_seconds: float = 20           # beyond what the slowest allowed transfer takes
    rate: float = 2**17                 # bytes a second of that transfer, in both directions: 1 Mbit/s
    wait_seconds: float = 90            # to wait for the turn
    turn_seconds: float = 60            # of a turn, after which no further photo is begun
    stop_seconds: float = 8             # for requests under way when the program is ended (Docker kills it after 10)
    idle_seconds: float = 240           # the page says every minute that it is still there
    visit_seconds: float = 4 * 3600


class Refused(Exception):
    """A request that gets no face: a status, and words for the visitor."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words
