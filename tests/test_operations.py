# SPDX-License-Identifier: MIT
"""docs/operations.md: every command in it, in its order, on a machine of its own; and every alert is explained."""

from __future__ import annotations

import re
from pathlib import Path

from testkit import chrony
from testkit.machine import Machine
from testkit.processes import ROOT

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)

BEFORE_THE_FIREWALL = """
nft add table inet filter
nft add chain inet filter input '{ type filter hook input priority 0; }'
"""
BEFORE_THE_START = "sed -i 's/^local_stratum/clock = local\\n&/' /etc/nts/server.ini  # no chronyd runs here\n"
# A chronyd that served NTS until now, on the same ports and with the same certificate, and its client.
BEFORE_CHRONY_LEAVES = r"""
systemctl stop ntske ntsts
mkdir -p /etc/chrony /var/lib/chrony /run/client
cat >/etc/chrony/chrony.conf <<END
local stratum 1
cmdport 0
pidfile /run/chrony.service.pid
ntsdumpdir /var/lib/chrony
allow
ntsserverkey /etc/nts/server.key
ntsservercert /etc/nts/server.pem
END
cat >/run/client/chrony.conf <<END
server time.example.net iburst minpoll 0 maxpoll 0 nts
ntstrustedcerts /etc/trusted.pem
port 0
cmdport 0
bindcmdaddress /run/client/chronyd.sock
pidfile /run/client/pid
END
chmod 700 /run/client
systemctl start chrony
chronyd -x -u root -4 -f /run/client/chrony.conf
of_client() { chronyc -n -h /run/client/chronyd.sock "$@"; }
answers() { of_client ntpdata 127.0.0.1 | sed -n 's/^Total valid RX *: //p'; }
until of_client -c authdata | grep '^127.0.0.1,NTS,1,15,256,.*,0,0,8,'; do sleep 0.1; done
"""
AFTER_CHRONY_HAS_LEFT = r"""
before=$(answers)
until [ "$(answers)" -ge $((before + 5)) ]; do sleep 0.1; done
echo "after chronyd: $(of_client -c authdata)"
"""
AT_THE_END = """
cd "$OLDPWD"
ntsts_client.py -f /tmp/client.ini --no-rekey && exit 9  # a leaked key's cookies are refused
ntsts_client.py -f /tmp/client.ini  # a client helps itself
cat /var/lib/*.log
make uninstall
ls /usr/local/lib/nts && exit 9
ls /etc/nts /var/lib/nts/master_keys
"""


def section_of(heading: str) -> str:
    """The commands of a section."""
    (commands,) = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.partition(heading)[2].partition("\n## ")[0], re.S | re.M)
    return str(commands)


def test_all_commands_work_in_their_order(tmp_path: Path) -> None:
    assert len(COMMANDS) >= 9
    commands = "\n".join(COMMANDS).replace("nft add rule", BEFORE_THE_FIREWALL + "nft add rule", 1)
    commands = commands.replace("systemctl enable", BEFORE_THE_START + "systemctl enable", 1)
    leaves = section_of("## Come from chrony")
    assert commands.count(leaves) == 1
    if chrony.unavailable() is None:
        commands = commands.replace(leaves, BEFORE_CHRONY_LEAVES + leaves + AFTER_CHRONY_HAS_LEFT)
    else:
        print(f"no chronyd hands over here: {chrony.unavailable()}")
        commands = commands.replace(leaves, "")
    commands = commands.replace("/tmp/client.ini", str(tmp_path / "client.ini"))
    end = AT_THE_END.replace("/tmp/client.ini", str(tmp_path / "client.ini"))
    done = Machine(tmp_path).run(commands + end)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert len(re.findall(r"^\d{4}-\S+Z  offset ", done.stdout, re.MULTILINE)) == 2
    assert "runs as root" not in done.stdout
    if chrony.unavailable() is None:  # one key exchange in all that time, and no NAK
        assert re.search(r"^after chronyd: 127\.0\.0\.1,NTS,1,15,256,\d+,0,0,[78],\d+$", done.stdout, re.MULTILINE)
    assert "server.ini\nserver.key\nserver.pem" in done.stdout


def test_every_alert_is_explained() -> None:
    alerts = re.findall(r"alert: (\w+)", (ROOT / "deploy" / "monitoring" / "alerts.yml").read_text())
    explained = DOCUMENT.partition("## What to do for each alert")[2]
    assert [name for name in alerts if name not in explained] == []
    assert sorted(alerts) == sorted(set(re.findall(r"\bNts[A-Z]\w+", explained)))
