"""Headless Chromium for tests of pages: Debian's chromium and chromium-driver (see Makefile), driven by selenium."""
from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np
import pytest

CHROMIUM, DRIVER = (next(filter(None, map(shutil.which, names)), None)
                    for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)))
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--mute-audio",
         "--enable-unsafe-swiftshader", "--use-angle=swiftshader",          # WebGL without a graphics card
         "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",        # a webcam for all
         "--hide-scrollbars", "--force-device-scale-factor=1", "--window-size=1100,900")


@contextmanager
def browser(folder: Path) -> Iterator[Any]:
    """A selenium driver whose profile, caches and downloads lie in `folder`; skips where there is no Chromium."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium chromium-driver)")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads"),
                                              "download.prompt_for_download": False})
    driver = selenium.Chrome(options, selenium.ChromeService(DRIVER))       # both named: selenium looks for nothing
    try:
        driver.set_page_load_timeout(120)
        yield driver
    finally:
        driver.quit()


def wait(driver: Any, condition: str, *values: Any, seconds: float = 60) -> Any:
    """The first true value of a JavaScript expression; `arguments` are the values. AssertionError when none comes."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait
    try:
        return WebDriverWait(driver, seconds, 0.05).until(lambda d: d.execute_script(f"return {condition}", *values))
    except TimeoutException:
        raise AssertionError(f"{condition} stayed false; console: {console(driver)}") from None


def console(driver: Any) -> list[str]:
    """What the console says of errors since the last call, in Chromium's words; a page that is well has none."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def posed(element: Any) -> np.ndarray:
    """What an element looks like on the screen: (H, W, 3) uint8 BGR."""
    return cv2.imdecode(np.frombuffer(element.screenshot_as_png, np.uint8), cv2.IMREAD_COLOR)
