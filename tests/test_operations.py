# SPDX-License-Identifier: MIT
"""docs/operations.md: every command in it, in its order, on a machine of its own; and every alert is explained."""

from __future__ import annotations

import re
from pathlib import Path

from testkit.machine import Machine
from testkit.processes import ROOT

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)

BEFORE_THE_FIREWALL = """
nft add table inet filter
nft add chain inet filter input '{ type filter hook input priority 0; }'
"""
BEFORE_THE_START = "sed -i 's/^local_stratum/clock = local\\n&/' /etc/nts/server.ini  # no chronyd runs here\n"
AT_THE_END = """
cd "$OLDPWD"
ntsts_client.py -f /tmp/client.ini --no-rekey && exit 9  # a leaked key's cookies are refused
ntsts_client.py -f /tmp/client.ini  # a client helps itself
cat /var/lib/*.log
make uninstall
ls /usr/local/lib/nts && exit 9
ls /etc/nts /var/lib/nts/master_keys
"""


def test_all_commands_work_in_their_order(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 9
    commands = "\n".join(COMMANDS).replace("nft add rule", BEFORE_THE_FIREWALL + "nft add rule", 1)
    commands = commands.replace("systemctl enable", BEFORE_THE_START + "systemctl enable", 1)
    commands = commands.replace("/tmp/client.ini", str(tmp_path / "client.ini"))
    end = AT_THE_END.replace("/tmp/client.ini", str(tmp_path / "client.ini"))
    done = Machine(tmp_path).run(commands + end)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert done.stdout.count("offset ") == 2
    assert "runs as root" not in done.stdout
    assert "server.ini\nserver.key\nserver.pem" in done.stdout


def test_every_alert_is_explained() -> None:
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())
    explained = DOCUMENT.partition("## What to do for each alert")[2]
    assert [name for name in alerts if name not in explained] == []
    assert sorted(alerts) == sorted(set(re.findall(r"\bNts[A-Z]\w+", explained)))
