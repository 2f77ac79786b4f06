# SPDX-License-Identifier: MIT
"""The alert rules and the dashboard in deploy/monitoring, with a real Prometheus that watches our servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit.client_runs import nothing
from testkit.folder_fleets import FolderMember
from testkit.ke_sessions import works
from testkit.processes import ROOT, Process, Suite, ask_udp, eventually, free_port, run, running_suite
from testkit.time_servers import ahead, time_servers
from testkit.ts_requests import plain

MONITORING = ROOT / "deploy" / "monitoring"
PROGRAMS = [shutil.which(name) for name in ("prometheus", "promtool")]
pytestmark = pytest.mark.skipif(
    None in PROGRAMS, reason="no prometheus and promtool here: ./bootstrap test unpacks them; or install prometheus"
)
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
QUERIES = [
    target["expr"].replace("$__rate_interval", "10s")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
SILENT = {  # what no client does here
    "nts_ke_tls_failures_total",
}


def test_promtool_finds_no_fault_in_the_time_clients_metrics(tmp_path: Path) -> None:
    """What node_exporter's textfile collector reads is the same format."""
    with time_servers(tmp_path, ahead(0), ahead(2), nothing) as servers:
        files = [word for s in servers for word in ("-f", s.ini.name)]
        run("ntsts_client.py", *files, "--timeout", 0.3, "--metrics", "nts.prom", cwd=tmp_path)
    text = (tmp_path / "nts.prom").read_text()
    assert 'nts_client_failures_total{kind="no_answer",server="c.ini"} 1.0' in text
    command = [str(PROGRAMS[1]), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class Prometheus:
    """A Prometheus that asks both servers twice a second."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(MONITORING / "alerts.yml")],
            "scrape_configs": [{"job_name": "nts", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        command = [
            str(PROGRAMS[0]), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip
        self.process = Process(command, folder / "prometheus.log")
        self.process.wait_for("Server is ready")

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.get("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After some traffic."""
    folder = tmp_path_factory.mktemp("prometheus")
    ports = free_port(), free_port(), free_port()
    (folder / "shared").mkdir()
    fleet = FolderMember(folder / "fleet", folder / "shared", metrics=f"127.0.0.1:{ports[2]}")
    fleet.must("init")
    with (
        fleet.agent(),
        running_suite(
            folder, ntske={"metrics": f"127.0.0.1:{ports[0]}"}, ntpv4={"metrics": f"127.0.0.1:{ports[1]}"}
        ) as suite,
    ):
        watcher = Prometheus(folder, [f"127.0.0.1:{port}" for port in ports])
        try:
            traffic(suite)
            assert eventually(lambda: len(watcher.query('up{job="nts"} == 1')) == 3, 30)
            for _ in range(5):  # what has a rate must grow between two scrapes
                traffic(suite)
            yield watcher
        finally:
            watcher.process.stop()


def traffic(suite: Suite) -> None:
    assert works(suite)
    assert suite.fetch().returncode == 0
    assert suite.ask().returncode == 0
    assert ask_udp(suite.ntp_port, plain())


@pytest.mark.parametrize("expression", QUERIES)
def test_every_panel_of_the_dashboard_shows_something(prometheus: Prometheus, expression: str) -> None:
    if any(name in expression for name in SILENT):
        assert prometheus.query(expression.removesuffix(" > 0"))
    else:
        assert eventually(lambda: bool(prometheus.query(expression)))


def test_a_healthy_server_raises_no_alert_but_for_its_trial_set_up(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert eventually(lambda: all(r["health"] == "ok" for r in prometheus.get("rules")["groups"][0]["rules"]))
    assert len(rules) >= 10
    raised = {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}
    assert raised <= {"NtsNativeEngineMissing"}


def test_every_alert_names_metrics_that_exist(prometheus: Prometheus) -> None:
    """Without a condition, each expression finds something."""
    known = set(prometheus.get("label/__name__/values"))
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            names = {w for w in words(rule["query"]) if w.startswith("nts_") or w == "up"}
            assert names
            assert names <= known, rule["name"]


def words(expression: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()


def test_alerts_are_raised_when_they_should_be(tmp_path: Path) -> None:
    """promtool plays time series to the rules; deploy/monitoring/alerts_test.yml has them."""
    done = subprocess.run(
        [str(PROGRAMS[1]), "test", "rules", str(MONITORING / "alerts_test.yml")],
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (MONITORING / "alerts_test.yml").read_text()
    rules = (MONITORING / "alerts.yml").read_text()
    for name in [line.split()[-1] for line in rules.splitlines() if "alert:" in line]:
        assert f"alertname: {name}\n" in tested
