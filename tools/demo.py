#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The main job of the suite from end to end, on this machine, with the shipped server.ini.

Starts both servers, fetches cookies with certificate verification, asks the time, rotates the master key, asks again
with a cookie from before the rotation and with one from after it, and stops the servers. The client's file lies in a
temporary folder, so a client.ini of yours is left alone; the master keys that server.ini names get a new one.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nts.base.errors import NTSError  # noqa: E402
from nts.client.state import Association, ClientState  # noqa: E402
from nts.server import config  # noqa: E402
from nts.system import places  # noqa: E402

START_TIMEOUT = 15.0  # seconds


class DemoError(Exception):
    """A step failed; the text says which and what it printed."""


def run(script: str, *arguments: str) -> list[str]:
    """Run a script of the suite to its end; the lines of its stdout."""
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise DemoError(f"{script} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.splitlines()


@contextlib.contextmanager
def server(script: str, ready: str, log: Path) -> Iterator[None]:
    """A server of the suite, from the line that says it is ready until the end of the block."""
    with log.open("w") as f:
        process = subprocess.Popen([sys.executable, str(ROOT / script)], stderr=f, stdout=f, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_TIMEOUT
        while ready not in log.read_text():
            if process.poll() is not None or time.monotonic() > end:
                raise DemoError(f"{script} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        print("\n".join(f"   {line.partition(': ')[2]}" for line in log.read_text().splitlines()))
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def title(text: str) -> None:
    print(f"\n* {text}", flush=True)


def key_id(association: Association) -> str:
    """The identifier, not secret, of the master key that sealed the next cookie to be spent."""
    return association.cookies[0][:2].hex()


def demo(folder: Path) -> None:
    settings = config.load(places.server_ini())
    ca, port = str(settings.ntske.root_ca), str(settings.ntske.port)
    client_ini = str(folder / "client.ini")
    store = ClientState(Path(client_ini))

    def ask(text: str) -> None:
        title(f"{text} (sealed with master key {key_id(store.load())})")
        print("   " + run("ntsts_client.py", "-f", client_ini)[-1])

    with contextlib.ExitStack() as running:
        title("start the key exchange server: ntske_server.py")
        running.enter_context(server("ntske_server.py", "sends clients to", folder / "ke.log"))
        title("start the time server: ntsts_server.py")
        running.enter_context(server("ntsts_server.py", "engine:", folder / "ts.log"))
        title(f"fetch keys and cookies, certificate verified: ntske_client.py -c certs/ca.pem localhost {port}")
        print("   " + run("ntske_client.py", "-c", ca, "localhost", port, "-o", client_ini)[-2])
        ask("ask the time with a cookie: ntsts_client.py")
        title("rotate the master key while both servers run: server_helper.py")
        print("   " + run("server_helper.py")[0])
        ask("ask with a cookie from before the rotation")
        fresh = store.load().cookies[-1:]  # the one that the last answer brought
        store.save(replace(store.load(), cookies=fresh))
        ask("ask with a cookie from after it")
    print("\nAll answers were authentic. Both servers have stopped.")


def main() -> int:
    try:
        with tempfile.TemporaryDirectory() as folder:
            demo(Path(folder))
    except (DemoError, NTSError, subprocess.TimeoutExpired) as e:
        print(f"demo: error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
