"""demo.py --serve: its arguments, and a session in headless Chromium from upload to download."""
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from Dataset.io.inputs import example_image
from Dataset.io.mesh_io import read_mesh
from Evaluation.web.serve import ServeConfig, serve
from Network.commands.demo_options import parse
from tests.browser import browser, console, posed, wait
from tests.test_blendshapes import morphed
from tests.test_serve import ask

ROOT = Path(__file__).resolve().parents[1]


def demo(*arguments, **more):
    return subprocess.Popen([sys.executable, str(ROOT / "demo.py"), *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("arguments, message", [
    (["--serve", "me.jpg"], "--serve takes photos on its page"), (["--port", "1"], "--port belongs to --serve"),
    (["--serve", "--host", ""], "host must be an address or a name"),
    (["--serve", "--port", "70000"], "port must be at most 65536, got 70000"),
    ([], "--example or --serve")])
def test_bad_arguments_are_one_line_and_exit_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        parse("words", ServeConfig, ("lines",), arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]


def test_an_address_that_cannot_be_had_is_an_error_in_words():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for config in (ServeConfig(port=taken.getsockname()[1]), ServeConfig("no.such.host.invalid", 0)):
            with pytest.raises(OSError, match=f"{config.host}:{config.port}: cannot be served at .*; try another"):
                serve(None, {}, config)


def test_in_chromium_from_upload_to_download(tmp_path):
    """demo.py --serve with the bundled weights: a photo in, a face that turns, three files, nothing left behind."""
    home = tmp_path / "home"
    home.mkdir()
    cv2.imwrite(str(tmp_path / "astronaut.png"), example_image().image)
    with browser(tmp_path) as driver:               # skips before anything is begun
        process = demo("--serve", "--port", "0", cwd=home,
                       env={**os.environ, "TMPDIR": str(home), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"})
        try:
            line = process.stdout.readline()
            assert line.startswith("open http://127.0.0.1:"), process.stderr.read()[-2000:]
            url = line.split()[1]
            before = sorted(home.rglob("*"))
            driver.get(url)
            wait(driver, "document.getElementById('network').value === 'compact'")
            # the webcam (Chromium's test image) shows no face: words
            driver.find_element("id", "webcam").click()
            wait(driver, "document.getElementById('video').videoWidth > 0")
            driver.find_element("id", "snap").click()
            wait(driver, "document.querySelectorAll('#photos li').length === 1")
            driver.find_element("id", "off").click()
            driver.find_element("id", "make").click()
            wait(driver, "document.getElementById('error').textContent", seconds=150)
            assert driver.find_element("id", "error").text == "photo 1: no face found; try a larger or sharper photo"
            assert all("422" in message for message in console(driver))        # the browser notes the status
            driver.find_element("css selector", "#photos button").click()
            # a photo
            driver.find_element("id", "files").send_keys(str(tmp_path / "astronaut.png"))
            wait(driver, "document.querySelectorAll('#photos img').length === 1")
            empty = posed(driver.find_element("id", "canvas"))
            driver.find_element("id", "make").click()
            wait(driver, "document.querySelectorAll('#downloads a').length === 3", seconds=150)
            wait(driver, "!document.getElementById('make').disabled")
            time.sleep(0.3)
            assert driver.find_element("id", "status").text.startswith("A face of 16,384 points from 1 photo")
            front = posed(driver.find_element("id", "canvas")).astype(int)
            drawn = np.abs(front - empty[5, 5]).max(axis=2) > 20
            assert 0.1 < drawn.mean() < 0.7
            rows, columns = np.nonzero(drawn)
            assert np.ptp(rows) > 1.15 * np.ptp(columns)              # a face is higher than wide
            red, blue = front[drawn][:, 2].mean(), front[drawn][:, 0].mean()
            assert red > blue + 25                                      # with the photo's skin
            from selenium.webdriver import ActionChains
            canvas = driver.find_element("id", "canvas")
            ActionChains(driver).drag_and_drop_by_offset(canvas, 150, 0).perform()
            time.sleep(0.3)
            assert np.abs(posed(canvas).astype(int) - front).mean() > 2       # it turned
            links = {a.get_attribute("download"): a.get_attribute("href")
                     for a in driver.find_elements("css selector", "#downloads a")}
            assert sorted(links) == ["face.glb", "face.ply", "face.zip"]
            for a in driver.find_elements("css selector", "#downloads a"):
                a.click()
            got = tmp_path / "downloads"
            deadline = time.monotonic() + 30
            while {p.name for p in got.glob("*")} != set(links) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert {p.name for p in got.glob("*")} == set(links)
            mesh = read_mesh(got / "face.ply")
            assert mesh.vertices.shape == (16384, 3) and mesh.triangles.shape == (2 * 127 * 127, 3)
            assert mesh.colours is not None and mesh.colours.std() > 10
            import trimesh
            scene = trimesh.load(got / "face.glb")
            body, = scene.geometry.values()
            _, base, shown = morphed(got / "face.glb")
            np.testing.assert_allclose(1000 * shown, mesh.vertices, atol=1e-2)       # metres, mm
            np.testing.assert_allclose(body.vertices, base, atol=1e-6)
            assert body.visual.material.baseColorTexture is not None
            with zipfile.ZipFile(io.BytesIO((got / "face.zip").read_bytes())) as archive:
                assert sorted(archive.namelist()) == ["face.mtl", "face.obj", "face_texture.png"]
            assert console(driver) == []
            # the page is left: nothing of the visitor is there any more, in memory or on the disk
            port = SimpleNamespace(server_address=("127.0.0.1", int(re.search(r":(\d+)/", url)[1])))
            path = links["face.ply"].removeprefix(url.rstrip("/"))
            assert ask(port, "GET", path)[0] == 200
            driver.get("about:blank")
            deadline = time.monotonic() + 10
            while ask(port, "GET", path)[0] != 404 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert ask(port, "GET", path)[0] == 404
            assert sorted(home.rglob("*")) == before
        finally:
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=60)[1]
        assert process.returncode == 0 and "Traceback" not in error
