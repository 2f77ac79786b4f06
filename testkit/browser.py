# SPDX-License-Identifier: MIT
"""A headless Chromium, driven over the pipe of the DevTools protocol: how pages look, and what they ask for."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 60.0  # seconds for an answer, on a busy machine
NO_BROWSER = f"no browser here: one of {', '.join(_NAMES)} is needed to look at pages"

OVERFLOWING = """
[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map(e => e.tagName + "." + (e.className.baseVal ?? e.className) + " " + e.textContent.slice(0, 40))
"""
"""what reaches beyond the sides of the window"""

PALE = """
(() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const opacity = e => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
  return [...document.querySelectorAll("body *")].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== "TITLE"
    && e.getBoundingClientRect().width && getComputedStyle(e).visibility !== "hidden"
  ).map(e => {
    const style = getComputedStyle(e), back = behind(e), share = opacity(e);
    const ink = parts(e.ownerSVGElement ? style.fill : style.color).map((c, i) => share * c + (1 - share) * back[i]);
    const [a, b] = [light(ink), light(back)];
    const scale = e.getScreenCTM ? e.getScreenCTM().a : 1;
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), parseFloat(style.fontSize) * scale, e];
  }).filter(([contrast, size]) => contrast < 4.5 || size < 10.5)
    .map(([contrast, size, e]) => `${e.tagName}.${e.className} ${e.textContent.slice(0, 40)}: ${contrast}, ${size} px`);
})()
"""
"""texts that are too small, or too much like what is behind them (WCAG 2: a contrast of 4.5)"""


@dataclass
class Browser:
    """A browser with one page."""

    process: subprocess.Popen[bytes]
    write: int
    read: int
    session: str = ""
    requests: list[str] = field(default_factory=list)
    """whatever a page has asked for since the last `open`"""
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol; what it returns."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self) -> Any:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            assert select.select([self.read], [], [], max(0, end - time.monotonic()))[0], "the browser does not answer"
            data = os.read(self.read, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        elif event.get("method") == "Page.loadEventFired":
            self._loaded = True

    def open(self, path: Path, width: int, scheme: str) -> None:
        """Show a page in a window of this width, in the colours for people who want them "light" or "dark"."""
        self.requests.clear()
        self._loaded = False
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._note(self._next())

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG file."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def _place(commands: int, answers: int) -> None:
    """Put the ends of both pipes where Chromium has them: commands at descriptor 3, answers at 4."""
    high = fcntl.fcntl(answers, fcntl.F_DUPFD, 10)
    os.dup2(commands, 3)
    os.dup2(high, 4)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a network. Skips, with the reason, where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(NO_BROWSER)
    (commands, write), (read, answers) = os.pipe(), os.pipe()
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--remote-debugging-pipe",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, *options, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(3, 4), preexec_fn=lambda: _place(commands, answers),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        try:
            made = Browser(process, write, read)
            target = made.call("Target.createTarget", url="about:blank")["targetId"]
            made.session = made.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Runtime"):
                made.call(f"{domain}.enable")
            yield made
        finally:
            process.kill()
            process.wait()
            os.close(write)
            os.close(read)
