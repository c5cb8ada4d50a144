"""A headless Chromium over the WebDriver protocol, with nothing beyond the standard library."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--force-device-scale-factor=1",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # key of a reference to an element, of the standard
KEYS = {"left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "tab": "\ue004"}
KEYS |= {"home": "\ue011", "end": "\ue010", "page down": "\ue00f", "enter": "\ue007"}


def programs() -> tuple[str, str] | None:
    """Paths of Chromium and of its driver, or None where they are not installed."""
    browser = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    driver = shutil.which(DRIVER)
    return None if browser is None or driver is None else (browser, driver)


class BrowserError(Exception):
    """What the driver says went wrong."""


class Browser:
    """One session; paths in the methods' words are those of the WebDriver standard."""

    def __init__(self, port: int, browser: str, profile: Path) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._open = build_opener(ProxyHandler({}))  # never through a proxy: it is this machine
        options = {
            "binary": browser,
            "args": [*FLAGS, f"--user-data-dir={profile}"],
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        session = self._request("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{session['sessionId']}"

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = Request(self._address + path, content, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with self._open.open(request, timeout=300) as response:
                return json.load(response)["value"]
        except HTTPError as error:
            value = json.load(error)["value"]
            raise BrowserError(f"{value['error']}: {value['message']}") from None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a command of this session."""
        return self._request(method, self._session + path, body)

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of Chromium's own protocol."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def go(self, page: Path) -> None:
        """Open a file."""
        self.call("POST", "/url", {"url": page.as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def resize(self, width: int, height: int) -> None:
        """Set the size of the view, which for a window has a lower bound."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str, motion: str = "no-preference") -> None:
        """Emulate what the reader has chosen in the system."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        chosen = [{"name": name, "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", media="", features=chosen)

    def hover(self, element: Any) -> None:
        """Move the mouse onto an element, which a script has given."""
        move = {"type": "pointerMove", "origin": element, "x": 0, "y": 0, "duration": 0}
        self._act("pointer", [move])

    def press(self, *keys: str) -> None:
        """Press keys one after another: names of `KEYS`, or characters."""
        actions = []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self._act("key", actions)

    def _act(self, kind: str, actions: list[dict[str, Any]]) -> None:
        self.call("POST", "/actions", {"actions": [{"type": kind, "id": kind, "actions": actions}]})

    def log(self, kind: str = "browser") -> list[dict[str, Any]]:
        """Messages since the last call: of the console, or of Chromium's own protocol."""
        return self.call("POST", "/se/log", {"type": kind})

    def picture(self, *, full: bool = False) -> bytes:
        """Take a picture of the view, or of the whole page."""
        found = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        return base64.b64decode(found["data"])

    def quit(self) -> None:
        """End the session."""
        self.call("DELETE", "")


@contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """Start a driver and a browser with a fresh profile in a folder; end both.

    Raises
    ------
    BrowserError
        If there is none, or it does not start.
    """
    found = programs()
    if found is None:
        raise BrowserError(
            "the tests of the page need chromium and chromedriver "
            "(Debian: apt-get install chromium chromium-driver)"
        )
    browser, driver = found
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "driver.log"
    process = subprocess.Popen(
        [driver, f"--port={port}", f"--log-path={log}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        session = _started(port, browser, folder / "profile", process)
        try:
            yield session
        finally:
            session.quit()
    finally:
        process.terminate()
        process.wait(timeout=30)


def _started(port: int, browser: str, profile: Path, process: Any) -> Browser:
    deadline = time.monotonic() + 60
    while True:
        try:
            return Browser(port, browser, profile)
        except URLError as error:  # the driver does not listen yet
            if process.poll() is not None or time.monotonic() > deadline:
                raise BrowserError(f"chromedriver does not answer: {error}") from None
            time.sleep(0.1)
