"""Whose requests the page answers: its own.

Any web page that somebody opens on this machine makes his browser send requests here, and can give its own name this
machine's address ("DNS rebinding"). So a request must name this machine, and one that changes anything must come from
our page.
"""
from __future__ import annotations

import re
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Mapping, NamedTuple
from urllib.parse import urlsplit

from Evaluation.web.limits import Refused


MAX_NAME = 253          # letters of a host's name


class Own(NamedTuple):
    """What this machine is called. host: that the server was bound to; public: the page's URL behind a proxy, or ""."""

    host: str
    public: str = ""

    @property
    def proxy_host(self) -> str:
        """Host and port of the public URL."""
        return urlsplit(self.public).netloc.lower()


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address; an IPv4 address in IPv6's clothes is the former; None for anything else."""
    try:
        found = ip_address(text.split("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_host(text: str) -> bool:
    """Whether it is an IP address, or a name that IDNA can write in letters, digits, hyphens, underscores and dots."""
    if not isinstance(text, str) or len(text) > MAX_NAME:       # IDNA's time grows with the square of the length
        return False
    try:
        name = text if address_of(text) else text.encode("idna").decode("ascii")
    except UnicodeError:        # a label of more than 63 letters, or an empty one
        return False
    letters = r"[\w.:%-]+" if address_of(name) else r"[\w.-]+"
    return len(name) <= MAX_NAME and re.fullmatch(letters, name, re.A) is not None


def is_page_url(text: str) -> bool:
    """Whether it is http:// or https://, a host and, at most, a port: what a browser sends as a page's origin."""
    if not isinstance(text, str):
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:          # no port, or broken brackets
        return False
    plain = parts.scheme in ("http", "https") and text.lower() == f"{parts.scheme}://{parts.netloc}".lower()
    return plain and "@" not in parts.netloc and not parts.netloc.endswith(":") and port != 0 \
        and is_host(parts.hostname or "")


def check_host(host: str, local: str, own: Own) -> None:
    """Refused unless the request's Host is this machine: localhost, a loopback address, the address `local` at which
    the request arrived, the --host or the public URL's."""
    name = re.sub(r":[0-9]{1,5}$", "", host).strip("[]").lower()
    address = address_of(name)
    if address is None:
        known = name in ("localhost", own.host.lower())
    else:
        known = address.is_loopback or address == address_of(local)
    if not known and not (own.public and host.lower() == own.proxy_host):
        raise Refused(HTTPStatus.FORBIDDEN, "open this page by this machine's address, or by localhost; behind a proxy "
                      "the program needs the page's own address as --public-url")


def check_origin(headers: Mapping[str, str], changes: bool, opens: bool, own: Own) -> None:
    """Refused for another site's request.

    changes  it is a POST: it must name our page as its origin. A proxy may have added TLS, and replaced the Host
    opens    a link may lead to the page itself
    """
    host = headers.get("Host", "").lower()
    origin = headers.get("Origin", "").lower()
    mine = {f"http://{host}", f"https://{host}"} | ({own.public.lower()} if own.public else set())
    foreign = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    if changes and origin not in mine or foreign and not opens:
        raise Refused(HTTPStatus.FORBIDDEN, "this page answers to its own requests only, not to another site's")


def forwarded_for(headers: Mapping[str, str], address: str, own: Own) -> str:
    """Who asks: the address that the proxy on this machine names last, where there is a public URL; else the
    connection's."""
    near = address_of(address)
    named = headers.get("X-Forwarded-For", "").split(",")[-1].strip()
    return named if own.public and near is not None and near.is_loopback and address_of(named) else address
