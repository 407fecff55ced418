"""A headless browser for tests: screenshots, and what it says on its console."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
)
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
CONSOLE = re.compile(r'CONSOLE[:(]\d+\)?\] "(.*)", source: (\S*)')


def screenshot(url: str, path: Path, width: int, height: int) -> list[str]:
    """Write a PNG of a page; return what the console said."""
    size = (f"--window-size={width},{height}", "--hide-scrollbars", "--disable-gpu")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            PROGRAM or "",
            *OPTIONS,
            *size,
            f"--user-data-dir={profile}",
            f"--screenshot={path}",
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return console(done.stderr)


def dumped(url: str) -> str:
    """Return the document as it is when its scripts have run."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        settings = (f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--disable-gpu")
        command = [PROGRAM or "", *OPTIONS, *settings, "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def printed(url: str, path: Path) -> int:
    """Print a page as PDF; return the number of sheets."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        settings = (f"--user-data-dir={profile}", "--disable-gpu", f"--print-to-pdf={path}")
        command = [PROGRAM or "", *OPTIONS, *settings, url]
        subprocess.run(command, capture_output=True, timeout=60, check=True)
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


@contextmanager
def opened(url: str, log: Path) -> Iterator[None]:
    """Keep a page open in a browser with WebGL; its log goes to a file."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, log.open("w") as lines:
        command = [PROGRAM or "", *OPTIONS, *SOFTWARE_WEBGL, f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [*command, "--remote-debugging-port=0", "--window-size=900,700", url], stderr=lines
        )
        try:
            yield
        finally:
            browser.terminate()
            browser.wait(20)


def ask(log: Path, method: str, **parameters: Any) -> dict[str, Any]:
    """Send one command of the DevTools protocol to the page that is open; return its result."""
    listening = re.search(r"DevTools listening on ws://([^/]*)/", log.read_text())
    assert listening, "the browser is not open yet"

    async def talk() -> dict[str, Any]:
        found = await AsyncHTTPClient().fetch(f"http://{listening[1]}/json/list")
        page = next(p for p in json.loads(found.body) if p["type"] == "page")
        line = await websocket_connect(page["webSocketDebuggerUrl"], max_message_size=1 << 26)
        await line.write_message(json.dumps({"id": 1, "method": method, "params": parameters}))
        while (answer := json.loads(await line.read_message() or "{}")).get("id") != 1:
            pass
        line.close()
        return dict(answer["result"])

    return asyncio.run(talk())


def console(log: str) -> list[str]:
    """Messages on the console."""
    return [f"{text} ({source})" for text, source in CONSOLE.findall(log)]
