# SPDX-License-Identifier: MIT
"""deploy/kubernetes without a cluster: the manifest against Kubernetes's schema; and a pod's commands with its files,
on volumes that are laid out and replaced as the kubelet does it, while clients ask.

The paths of the pod lie below a folder, its ports are free ones. What is not tried: images, limits, the scheduler."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.system import certs
from testkit.fleet_load import Load
from testkit.folder_fleets import FolderMember, leading
from testkit.key_files import ids
from testkit.kubelet import Kubelet, write_volume
from testkit.processes import ROOT, Process, eventually, free_port

HERE = ROOT / "deploy/kubernetes"
MANIFEST = (HERE / "nts.yaml").read_text()
MOUNTS = dict(re.findall(r"{name: (\w+), mountPath: ([^,}]+)", MANIFEST))
ITEMS = dict(re.findall(r"{key: (\w+), path: ([\w/]+)}", MANIFEST))
SPREAD, LIFE = 8, 4  # seconds
HOST = "127.0.0.1"
KUBECTL = """#!{python}
import base64, os, shutil, sys
words = sys.argv[1:]
assert words[:2] == ["-n", "nts"] or words == ["apply", "-f", "-"], words
if words[0] == "apply":
    applied = sys.stdin.read()
    assert "name: nts-plan" in applied
    open({applied!r} + ".new", "w").write(applied)
    os.rename({applied!r} + ".new", {applied!r})
elif {real!r}:
    os.execv({real!r}, [{real!r}, *words])
else:
    assert words[2:6] == ["create", "secret", "generic", "nts-plan"], words
    assert words[-3:] == ["--dry-run=client", "-o", "yaml"], words
    print("apiVersion: v1\\ndata:")
    for word in words[6:-3]:
        key, _, path = word.removeprefix("--from-file=").rpartition("=")
        print(f"  {{key or path}}: {{base64.b64encode(open(path, 'rb').read()).decode()}}")
    print("kind: Secret\\nmetadata:\\n  name: nts-plan")
"""
"""of which `create` may be the real one, and `apply` writes a file"""


def test_the_manifest_is_what_kubernetes_takes() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="no kubernetes-validate here (pip): Kubernetes's schemas, 22 MB"
    )
    yaml = pytest.importorskip("yaml")
    kinds = set()
    for document in yaml.safe_load_all(MANIFEST):
        for version in ("1.29", "1.37"):
            validate.validate(document, version, strict=True)
        kinds.add(document["kind"])
        with pytest.raises(validate.ValidationError):
            validate.validate({**document, "spec": {"selector": 1}}, "1.37", strict=True)
    assert kinds == {"Namespace", "DaemonSet"}


def test_what_kustomize_makes_has_both_configurations() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here (Debian: kubernetes-client)")
    made = subprocess.run([kubectl, "kustomize", HERE], capture_output=True, text=True, check=True, timeout=60).stdout
    for name in ("server.ini", "fleet.ini"):
        assert f"  {name}: |\n" in made
        for line in filter(None, (HERE / name).read_text().splitlines()):
            assert f"    {line}\n" in made
    (name,) = re.findall(r"configMap:\s+name: (\S+)", made)
    assert f"kind: ConfigMap\nmetadata:\n  name: {name}\n" in made


def test_every_volume_that_is_mounted_is_there_and_the_other_way_round() -> None:
    volumes = re.findall(r"^        - name: (\w+)\n          (?:configMap|secret|emptyDir)", MANIFEST, re.MULTILINE)
    assert sorted(volumes) == sorted(MOUNTS)
    inis = "".join((HERE / name).read_text() for name in ("server.ini", "fleet.ini"))
    for path in re.findall(r"= (/\S+)", inis):
        assert any(path == mount or path.startswith(f"{mount}/") for mount in MOUNTS.values()), path


class Pod:
    """What runs on a node."""

    def __init__(self, root: Path, applied: Path) -> None:
        self.root, self._applied = root, applied
        self.ke_port, self.ntp_port, self.metrics = free_port(), free_port(), free_port()
        self.keys = root / "run/nts/master_keys"
        self.processes = contextlib.ExitStack()

    def placed(self, text: str) -> str:
        """With the paths and ports of this pod."""
        mounts = "|".join(sorted(MOUNTS.values(), key=len, reverse=True))
        text = re.sub(rf"(?<![\w/])({mounts})\b", lambda m: f"{self.root}{m[1]}", text)
        for before, after in (
            ("port = 4460", f"port = {self.ke_port}"),
            ("port = 123\n", f"port = {self.ntp_port}\nclock = local\n"),
            ("0.0.0.0:9462", f"{HOST}:{self.metrics}"),
        ):
            text = text.replace(before, after)
        return text

    def volume(self, name: str) -> Path:
        path: str = MOUNTS[name]
        return self.root / path.removeprefix("/")

    def mount(self, **content: dict[str, bytes]) -> None:
        for name, files in content.items():
            self.volume(name).mkdir(parents=True)
            write_volume(self.volume(name), 0, files)
        self.volume("keys").mkdir(parents=True)
        self.processes.enter_context(Kubelet(self.volume("plan"), self._plan))

    def _plan(self) -> dict[str, bytes]:
        data = dict(re.findall(r"^  (\w+): (\S+)$", self._applied.read_text(), re.MULTILINE))
        return {path: base64.b64decode(data[key]) for key, path in ITEMS.items()}

    def start(self, name: str, says: str) -> None:
        """A container."""
        found = re.search(rf"- name: {name}\n(?:.*\n){{1,2}}?\s+command: (\[.*\])", MANIFEST)
        assert found
        script, *arguments = json.loads(found[1])
        config = ["-c", str(self.volume("config") / "fleet.ini")]
        config = config if script == "fleet_helper.py" else [str(self.volume("config") / "server.ini")]
        command = [sys.executable, str(ROOT / script), *config, *arguments]
        process = Process(command, self.root / f"{name}.log")
        self.processes.callback(process.stop)
        process.wait_for(says)

    def has_keys(self) -> bool:
        """What the kubelet asks before it starts the next container."""
        found = re.search(r"startupProbe:\n\s+exec: {command: (\[.*\])}", MANIFEST)
        assert found
        probe = [self.placed(word) for word in json.loads(found[1])]
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[FolderMember]:
    with leading(tmp_path, spread=SPREAD, life=LIFE) as member:
        yield member


@contextlib.contextmanager
def publishing(leader: FolderMember, applied: Path) -> Iterator[None]:
    """deploy/kubernetes/publish.sh, every second."""
    kubectl = applied.with_name("bin") / "kubectl"
    kubectl.parent.mkdir()
    real = shutil.which("kubectl") or ""
    kubectl.write_text(KUBECTL.format(python=sys.executable, applied=str(applied), real=real))
    kubectl.chmod(0o755)
    env = {**os.environ, "PATH": f"{kubectl.parent}:{os.environ['PATH']}"}
    script = subprocess.Popen([HERE / "publish.sh", leader.shared, "1"], env=env)
    try:
        assert eventually(applied.exists)
        yield
    finally:
        script.kill()
        script.wait()


def test_pods_follow_the_rotations_of_their_leader(leader: FolderMember, tmp_path: Path) -> None:
    certs.make(certs.LOCAL_NAMES, cert=tmp_path / "c.pem", key=tmp_path / "c.key", ca=tmp_path / "ca.pem")
    tls = {"tls.crt": (tmp_path / "c.pem").read_bytes(), "tls.key": (tmp_path / "c.key").read_bytes()}
    key = {"fleet.key": (tmp_path / "fleet.key").read_bytes()}
    pods = [Pod(tmp_path / name, tmp_path / "applied") for name in ("node1", "node2")]
    load = Load(contextlib.nullcontext, tmp_path / "ca.pem", LIFE)
    with publishing(leader, tmp_path / "applied"), contextlib.ExitStack() as stack:
        for pod in pods:
            stack.enter_context(pod.processes)
            config = {name: pod.placed((HERE / name).read_text()).encode() for name in ("server.ini", "fleet.ini")}
            pod.mount(config=config, tls=tls, key=key)
            assert not pod.has_keys()
            pod.start("agent", "agent of")
            assert eventually(pod.has_keys)
            pod.start("ke", "sends clients to")
            pod.start("ts", "engine:")
        load.servers = [(HOST, pod.ntp_port) for pod in pods]
        load.exchanges = [(HOST, pod.ke_port) for pod in pods]
        with load:
            for _ in range(2):
                new = leader.must("rotate").split()[1]
                assert eventually(lambda new=new: all(ids(p.keys)[-1:] == [int(new, 16)] for p in pods))  # type: ignore[misc]
            time.sleep(1)
            load.check()
        assert len(load.sealers[HOST]) >= 2, "new keys were used"
