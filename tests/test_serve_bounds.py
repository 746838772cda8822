"""Evaluation/web/serve.py under many visitors, slow ones, rude ones, behind a proxy, and at the end of the program."""
import contextlib
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from Evaluation.web.connections import Connection, Connections, PacedStream, client_of
from Evaluation.web.limits import Limits
from Evaluation.web.serve import FaceServer, ServeConfig
from tests.test_serve import SMALL, Fake, ask, face, open_session, png, serving, wait_for, words

ROOT = Path(__file__).resolve().parents[1]
PATIENT = SMALL._replace(wait_seconds=20, sessions=50, client_sessions=50)


@pytest.fixture
def fake():
    return Fake()


class Slow(Fake):
    """Counts the images that it takes; waits for leave before each answer to one."""

    def __init__(self):
        super().__init__()
        self.taken, self.ended = 0, []

    def __call__(self, images, network):
        try:
            for _ in images:
                self.taken += 1
                assert self.wait.wait(20)
        except BaseException as error:
            self.ended.append(error)
            raise
        return self.answer


def begin(server, token, size=None, photos=(png(),)):
    """A connection on which a request for a face has been sent; of `size` bytes only so many of the photos."""
    port, body = server.server_address[1], b"".join(photos)
    link = socket.create_connection(("127.0.0.1", port), timeout=20)
    link.sendall(f"POST /visit/{token}/face?network=compact HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                 f"Origin: http://127.0.0.1:{port}\r\nX-Photo-Sizes: {','.join(str(len(one)) for one in photos)}\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:size])
    return link


def status(link) -> int:
    """Of the answer that comes on a connection; 0: it is closed without one."""
    with link:
        try:
            answer = http.client.HTTPResponse(link)
            answer.begin()
            return answer.status
        except (ConnectionError, http.client.BadStatusLine):
            return 0


def test_twenty_at_once_are_served_one_after_the_other(fake):
    """With the page's own limits."""
    with serving(fake, Limits()) as server, ThreadPoolExecutor(20) as pool:
        tokens = [open_session(server) for _ in range(20)]
        fake.wait.clear()
        waiting = [pool.submit(face, server, token, png()) for token in tokens]
        wait_for(lambda: len(server.turn) == 19)
        fake.wait.set()
        assert [one.result(60)[0] for one in waiting] == [200] * 20


def test_who_drips_is_cut_off_and_holds_nobody_up(fake):
    with serving(fake, PATIENT._replace(pause_seconds=0.6)) as server:
        tokens = [open_session(server) for _ in range(5)]
        dripping = [begin(server, token, 10) for token in tokens[:4]]
        with pytest.raises(OSError):
            for _ in range(200):            # each byte comes soon after the last one, all of them too slowly
                for link in dripping:
                    link.sendall(b"x")
                time.sleep(0.05)
        assert face(server, tokens[4], png())[0] == 200
        assert not len(server.uploads) and all(status(link) in (0, 408) for link in dripping)


def test_who_is_slow_but_goes_on_is_served(fake):
    with serving(fake, PATIENT._replace(pause_seconds=5, rate=1)) as server:
        link = begin(server, open_session(server), 10)
        for i in range(10, len(png()), 20):
            time.sleep(0.01)
            link.sendall(png()[i:i + 20])
        assert status(link) == 200


def test_a_stream_has_its_time():
    one, other = socket.socketpair()
    with one, other:
        stream = PacedStream(one, Limits(head_seconds=0.05, pause_seconds=0.05, rate=1e9))
        with pytest.raises(TimeoutError):
            stream.readinto(bytearray(8))
        stream.expect_body()
        other.sendall(b"abc")
        assert stream.readinto(bytearray(8)) == 3
        with pytest.raises(TimeoutError):
            stream.readinto(bytearray(8))
        with pytest.raises(TimeoutError):
            stream.write(bytes(2**24))          # nobody reads
    with pytest.raises(ConnectionAbortedError, match="too long"):
        one, other = socket.socketpair()
        with one, other:
            reader = io.BufferedReader(PacedStream(one, Limits()), 2**13)
            for _ in range(9):
                other.sendall(bytes(2**13))
                assert reader.read(2**13)


def test_idle_connections_give_way(fake):
    with serving(fake, PATIENT._replace(connections=6, head_seconds=20)) as server, contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(socket.create_connection(server.server_address[:2], timeout=20))
        assert face(server, open_session(server), png())[0] == 200
        assert len([one for one in server.connections if not one.cut_off]) <= 6


def test_the_idlest_connection_of_the_client_with_most_gives_way():
    held = Connections(Limits(connections=3))
    with contextlib.ExitStack() as stack:
        pairs = [[stack.enter_context(one) for one in socket.socketpair()][0] for _ in range(6)]
        for one, address in zip(pairs, ("10.0.0.1", "10.0.0.2", "10.0.0.2")):
            assert held.admit(one, address)
        assert held.admit(pairs[3], "10.0.0.3") and [one.cut_off for one in held] == [False, True, False, False]
        held[pairs[0]].idle = held[pairs[2]].idle = False
        assert held.admit(pairs[4], "10.0.0.4") and held[pairs[3]].cut_off
        held[pairs[4]].idle = False
        assert not held.admit(pairs[5], "10.0.0.5")             # three requests are under way
        assert held.requests_of("10.0.0.2") == 1
        held.leave(pairs[2])
        assert held.admit(pairs[5], "10.0.0.5") and not held.wait(0)


@pytest.mark.parametrize("address, client", [
    ("10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ("fe80::1%eth0", "fe80::/64"), ("", "")])
def test_a_client_is_an_address(address, client):
    assert client_of(address) == client


def test_a_client_has_so_many_requests_under_way(fake):
    with serving(fake, PATIENT._replace(client_requests=2)) as server, ThreadPoolExecutor(2) as pool:
        tokens = [open_session(server), open_session(server)]
        wait_for(lambda: not list(server.connections))
        fake.wait.clear()
        waiting = [pool.submit(face, server, token, png()) for token in tokens]
        wait_for(lambda: len(server.turn) == 1)
        answer = ask(server, "GET", "/about")
        assert answer[0] == 429 and "2 of your requests are under way" in words(answer)
        fake.wait.set()
        assert [one.result(20)[0] for one in waiting] == [200, 200]
        wait_for(lambda: ask(server, "GET", "/about")[0] == 200)


def test_uploads_beyond_the_bytes_that_may_be_held_wait(fake):
    size = len(png())
    with serving(fake, PATIENT._replace(held_bytes=2 * size, client_bytes=2 * size)) as server, \
            ThreadPoolExecutor(4) as pool:
        tokens = [open_session(server) for _ in range(4)]
        fake.wait.clear()
        waiting = [pool.submit(face, server, token, png()) for token in tokens]
        wait_for(lambda: len(server.turn) == 1 and len(server.uploads) == 2)
        fake.wait.set()
        assert [one.result(20)[0] for one in waiting] == [200] * 4


def test_a_turn_ends():
    slow = Slow()
    with serving(slow, PATIENT._replace(turn_seconds=0.2)) as server, ThreadPoolExecutor(1) as pool:
        token = open_session(server)
        slow.wait.clear()
        waiting = pool.submit(face, server, token, png(1), png(2))
        wait_for(lambda: slow.taken == 1)
        time.sleep(0.3)
        slow.wait.set()
        answer = waiting.result(20)
        assert answer[0] == 503 and "not made within 0.2 s; try fewer photos" in words(answer) and slow.taken == 1
        assert face(server, token, png())[0] == 200


def test_who_hangs_up_is_not_worked_for():
    slow = Slow()
    with serving(slow, PATIENT) as server:
        slow.wait.clear()
        first = begin(server, open_session(server), photos=(png(1), png(2), png(3)))
        wait_for(lambda: slow.taken == 1)
        second = begin(server, open_session(server))
        wait_for(lambda: len(server.turn) == 1)
        second.close()
        wait_for(lambda: len(server.turn) == 0)         # out of the queue
        first.close()
        slow.wait.set()
        wait_for(lambda: slow.ended)
        assert slow.taken == 1 and isinstance(slow.ended[0], ConnectionError)
        assert face(server, open_session(server), png())[0] == 200


def upload(kind, size=(20, 20), mode="RGB"):
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("photo, message", [
    (upload("TIFF"), "photo 1: must be an image (JPEG, PNG, WebP or AVIF)"), (upload("GIF"), "must be an image"),
    (upload("PNG", (60, 60)), "photo 1: an image that is no JPEG may have at most 0.003 megapixels")],
    ids=["TIFF", "GIF", "large"])
def test_other_formats_and_large_ones_are_refused_before_the_wait(fake, photo, message):
    with serving(fake, PATIENT._replace(whole_pixels=3000)) as server:
        with server.turn.held("another", 1, 1):
            answer = face(server, open_session(server), photo)
        assert answer[0] == 422 and message in words(answer)
        assert face(server, open_session(server), upload("JPEG", (60, 60)))[0] == 200


def test_behind_a_proxy(fake):
    """It adds TLS, keeps the Host or replaces it, and names its client."""
    config = ServeConfig(port=0, public_url="https://faces.example")
    with FaceServer(config, fake, {"compact": ""}, SMALL._replace(client_sessions=1)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        own = {"Origin": "https://faces.example", "X_Forwarded_For": "6.6.6.6, 10.0.0.1"}
        assert ask(server, "POST", "/visit", Host="faces.example", **own)[0] == 200
        assert ask(server, "POST", "/visit", Host="127.0.0.1:1", **own)[0] == 503      # one session a client
        assert ask(server, "POST", "/visit", **{**own, "X_Forwarded_For": "6.6.6.6, 10.0.0.2"})[0] == 200
        for host, origin in (("faces.example", "https://evil.example"), ("evil.example", "https://evil.example"),
                             ("faces.example:8443", "https://faces.example")):
            assert ask(server, "POST", "/visit", Host=host, Origin=origin)[0] == 403
        assert ask(server, "GET", "/about", Host="faces.example", Sec_Fetch_Site="same-origin")[0] == 200
        server.shutdown()


def test_without_a_public_url_a_proxy_may_only_add_tls(fake):
    with serving(fake, PATIENT._replace(client_sessions=2)) as server:
        assert ask(server, "POST", "/visit", Host="localhost:8443", Origin="https://localhost:8443")[0] == 200
        assert ask(server, "POST", "/visit", Host="faces.example", Origin="https://faces.example")[0] == 403
        assert ask(server, "POST", "/visit", X_Forwarded_For="1.2.3.4")[0] == 200
        assert ask(server, "POST", "/visit", X_Forwarded_For="1.2.3.5")[0] == 503       # the same client


@pytest.mark.parametrize("url", ["faces.example", "ftp://a", "https://", "https://a/b", "https://u@a", "https://a?b",
                                 "http://a:99999", "http://a:x", "http://a:0", "http://a:", "http://[::1", "http://a b",
                                 "http://a\n", "http://" + 80 * "é", "http://a..b"])
def test_a_public_url_is_an_address(url):
    with pytest.raises(ValueError, match="public_url must be like https://faces.example"):
        ServeConfig(public_url=url)


@pytest.mark.parametrize("host", ["", 80 * "é", 64 * "a", "a..b", "a b", "a\0", "a:b", "[::1]", 300 * "a.", "::1%é", 5])
def test_a_host_is_an_address_or_a_name(host):
    with pytest.raises(ValueError, match="host must be an address or a name"):
        ServeConfig(host)


def test_sound_hosts_and_pages_are_taken():
    for host in ("127.0.0.1", "::1", "fe80::1%eth0", "localhost", "my_machine.local.", "fäces.example"):
        assert ServeConfig(host).host == host
    for url in ("http://a:80", "https://[::1]:8443", "HTTPS://Faces.example"):
        assert ServeConfig(public_url=url).public_url == url
    with pytest.raises(ValueError, match="port must be"):
        ServeConfig(port="80")


def ending(slow, limits):
    """A server that ends while a photo is worked on, another request waits, a third one sends and a fourth is idle ->
    the statuses of the four."""
    with FaceServer(ServeConfig(port=0), slow, {"compact": ""}, limits) as server:
        loop = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        loop.start()
        tokens = [open_session(server) for _ in range(3)]
        slow.wait.clear()
        links = [begin(server, tokens[0])]
        wait_for(lambda: slow.taken == 1)
        links += [begin(server, tokens[1]), begin(server, tokens[2], 10)]
        wait_for(lambda: len(server.turn) == 1)
        links.append(socket.create_connection(server.server_address[:2], timeout=20))
        wait_for(lambda: len(list(server.connections)) == 4)
        server.shutdown()
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(status, link) for link in links]
            yield
            server.finish()
            yield [one.result(20) for one in found]


def test_the_end_of_the_program_is_an_answer():
    slow = Slow()
    steps = ending(slow, PATIENT)
    next(steps)
    threading.Timer(0.3, slow.wait.set).start()
    assert next(steps) == [503, 503, 503, 0]        # the answer to the first is made, and nobody may have a file of it
    steps.close()


def test_the_end_of_the_program_does_not_wait_for_ever():
    slow = Slow()
    steps = ending(slow, PATIENT._replace(stop_seconds=0.3, turn_seconds=0.3))
    next(steps)
    assert next(steps) == [503, 503, 503, 0]
    slow.wait.set()
    steps.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_with_0_and_requests_with_an_answer(number):
    code = ("import sys, time\nfrom Evaluation.web.serve import ServeConfig, serve\n"
            "def work(images, network):\n    for _ in images:\n        print('working', flush=True)\n"
            "        time.sleep(0.5)\n    raise ValueError('no face')\n"
            "serve(work, {'compact': ''}, ServeConfig(port=0), lambda url: print(url, flush=True))\nsys.exit(0)")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)          # no network, no TensorFlow: it starts at once
    try:
        url = process.stdout.readline().strip()
        server = type("At", (), {"server_address": ("127.0.0.1", int(url.rstrip("/").rsplit(":", 1)[1]))})
        link = begin(server, open_session(server), photos=(png(1), png(2)))
        assert process.stdout.readline() == "working\n"
        process.send_signal(number)
        assert status(link) == 503
        error = process.communicate(timeout=30)[1]
        assert process.returncode == 0 and "Traceback" not in error, error
    finally:
        if process.poll() is None:
            process.kill()


def test_a_taken_address_is_one_line_and_exit_2(monkeypatch, capsys):
    import demo

    class Stub:
        def __init__(self, *arguments):
            self.networks = {"compact": ""}
    monkeypatch.setattr("Network.commands.answer.Answers", Stub)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert demo.main(["--serve", "--port", str(taken.getsockname()[1])]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("demo.py: 127.0.0.1:") and "cannot be served at" in line


def test_an_answer_is_claimed_once():
    one, other = socket.socketpair()
    with one, other:
        link = Connection(one, "", Limits())
        assert link.claim() and not link.claim() and not link.gone()
        other.close()
        assert link.gone()
        link.say(json.dumps({}).encode())       # nobody is there: no error
