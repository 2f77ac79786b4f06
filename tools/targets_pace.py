# SPDX-License-Identifier: MIT
"""`python -m tools.targets_pace [SERVERS]`: how long nts_check takes with many servers of this machine, beside one.

Takes as long as two full runs at the default pace, so about twenty minutes. The fronts of the servers count: each must
be asked at its pace.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from testkit.fronts import Front, fronts, haste
from testkit.processes import ROOT

PACE = 1.0  # seconds: the default of nts_check
JITTER = 0.1, 0.5  # seconds, of packets and of connections: only the former have timestamps of the kernel
MOST = 1.5  # times the time of one server


def measure(folder: Path, servers: Sequence[Front]) -> float:
    """Check these servers; seconds."""
    listed = folder / f"{len(servers)}.txt"
    listed.write_text("".join(f"localhost:{s.ke_port}\n" for s in servers))
    command = [sys.executable, str(ROOT / "nts_check.py"), "server", "-4", "-c", str(folder / "ca.pem")]
    for server in servers:
        server.packets.clear()
        server.connections.clear()
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([*command, "--targets", str(listed)], check=False, text=True, stdout=subprocess.PIPE)
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    early = [max(haste(s.packets, PACE) for s in servers), max(haste(s.connections, PACE) for s in servers)]
    sent = sum(len(s.packets) + len(s.connections) for s in servers)
    print(
        f"{len(servers)} servers: {seconds:.1f} s, exit code {done.returncode}; {sent} packets and connections, none"
        f" more than {1000 * early[0]:.0f} and {1000 * early[1]:.0f} ms before its turn; {cpu:.1f} s of CPU,"
        f" {after.ru_maxrss // 1024} MB",
        flush=True,
    )
    if done.returncode or early[0] > JITTER[0] or early[1] > JITTER[1]:
        for line in listed.with_suffix(".jsonl").read_text().splitlines():
            report = json.loads(line)
            odd = {r["name"]: r["evidence"] for r in report.get("results", ()) if r["verdict"] != "PASS"}
            if odd or "failure" in report:
                print(report["target"], report.get("failure") or odd)
        sys.exit("failed: a server does not conform, or was asked faster than its pace")
    return seconds


def main() -> None:
    number = int(sys.argv[1]) if sys.argv[1:] else 20
    with tempfile.TemporaryDirectory() as name, fronts(Path(name), number) as servers:
        one, many = measure(Path(name), servers[:1]), measure(Path(name), servers)
    print(f"{number} servers take {many / one:.2f} times as long as one; at most {MOST} is right")
    sys.exit(many > MOST * one)


if __name__ == "__main__":
    main()
