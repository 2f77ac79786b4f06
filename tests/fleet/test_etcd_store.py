# SPDX-License-Identifier: MIT
"""The plan in a real cluster of three: transactions, leases, watches, rights, and endpoints that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.fleet.etcd import Cluster, Etcd, credentials, grant
from nts.fleet.store import Refused, Unreachable
from testkit.etcd import EtcdCluster, make_certificate
from testkit.processes import eventually, free_port


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """With a role for /nts/, which the user `member` has and `stranger` has not."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    try:
        cluster.start_all()
        for _ in range(2):  # a second time changes nothing
            grant(client(cluster, "root"), "/nts/", "nts", ("member",), enable=True)
        yield cluster
    finally:
        cluster.stop()


def client(cluster: EtcdCluster, name: str, *endpoints: str) -> Cluster:
    if not (cluster.folder / f"{name}.pem").exists():
        make_certificate(cluster.folder, name)
    files = (cluster.folder / f"{name}.pem", cluster.folder / f"{name}.key")
    return Cluster(endpoints or tuple(cluster.endpoints.split(", ")), credentials(cluster.ca, *files))


@pytest.fixture
def store(etcd: EtcdCluster) -> Iterator[Etcd]:
    made = Etcd(client(etcd, "member"), "/nts/", 2)
    yield made
    made.close()
    etcd.ctl("del", "--prefix", "/nts/")


def test_a_transaction_happens_whole_or_not_at_all(store: Etcd) -> None:
    assert store.write({"shared/a": b"1", "b": b"2"}, {"shared/a": 0})
    item = store.read("shared/")["shared/a"]
    assert item.value == b"1"
    assert not store.write({"shared/a": b"3", "b": b"3"}, {"shared/a": 0})
    assert not store.write({"shared/a": b"3", "b": b"3"}, {"shared/a": item.revision, "b": 1})
    assert store.write({"shared/a": None, "b": b"4"}, {"shared/a": item.revision})
    assert store.read("") == store.read("b")
    assert store.read("b")["b"].value == b"4"


def test_what_is_newer_than_a_revision(store: Etcd) -> None:
    store.write({"acks/a": b"1", "acks/b": b"1"}, {})
    first = store.read("acks/")
    since = max(item.revision for item in first.values())
    assert store.read("acks/", since) == {}
    store.write({"acks/b": b"2"}, {})
    assert [item.value for item in store.read("acks/", since).values()] == [b"2"]


def test_what_is_mortal_dies_with_its_process(etcd: EtcdCluster, store: Etcd) -> None:
    one, other = (Etcd(client(etcd, "member"), "/nts/", 2) for _ in range(2))
    leader = {"shared/leader": 0}
    assert one.write({"shared/leader": b"x"}, leader, mortal=True)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert one.beat()
        assert not store.write({"shared/leader": b"y"}, leader)
        time.sleep(0.5)
    assert eventually(lambda: store.read("shared/") == {}, 10), "it stopped beating"
    assert not one.beat(), "and is told"
    assert other.write({"shared/leader": b"y"}, leader, mortal=True)
    other.close()
    assert store.read("shared/") == {}, "who ends in order lets go at once"
    one.close()


def test_a_change_ends_the_wait(etcd: EtcdCluster, store: Etcd) -> None:
    store.wait(0.2)
    time.sleep(1)
    store.wait(0.2)
    other = Etcd(client(etcd, "member"), "/nts/", 2)
    for name, expected in (("clock", False), ("shared/plan", True), ("shared/leader", True), ("acks/a", False)):
        threading.Timer(0.3, other.write, ({name: b"1"}, {})).start()
        begin = time.monotonic()
        assert store.wait(2) == expected, name
        assert (time.monotonic() - begin < 1.5) == expected, name
    other.write({"shared/plan": b"2"}, {})
    time.sleep(1)
    assert store.wait(0), "what came while nobody waited is not lost"
    assert not store.wait(0)
    other.close()


def test_a_member_can_read_and_write_below_the_prefix_and_nowhere_else(etcd: EtcdCluster, store: Etcd) -> None:
    store.write({"a": b"1"}, {})
    for prefix in ("/", "/ntsx/", "/nts"):
        outside = Etcd(client(etcd, "member"), prefix, 2)
        with pytest.raises(Refused, match="permission denied"):
            outside.read("")
        with pytest.raises(Refused, match="permission denied"):
            outside.write({"0a": b""}, {})
    with pytest.raises(Refused, match="permission denied"):
        grant(client(etcd, "member"), "/", "more", ("member",), enable=False)
    for name in ("stranger", "etcd"):
        with pytest.raises(Refused):
            Etcd(client(etcd, name), "/nts/", 2).read("")


def test_without_a_certificate_of_the_cluster_nobody_gets_in(etcd: EtcdCluster, tmp_path: Path) -> None:
    foreign = make_certificate(tmp_path, "member")
    by_name = etcd.endpoints.replace("127.0.0.1", "localhost")
    for endpoints, ca, pair, why in (
        (etcd.endpoints, etcd.ca, foreign, "it refuses the certificate of this host"),
        (etcd.endpoints, tmp_path / "ca.pem", foreign, "its certificate is not from the CA in "),
        (by_name, etcd.ca, etcd.root, "its certificate is for another name"),
    ):
        outside = Etcd(Cluster(tuple(endpoints.split(", ")), credentials(ca, *pair)), "/nts/", 2)
        with pytest.raises(Unreachable, match=f"etcd is out of reach: {why}.* \\({endpoints}\\)") as caught:
            outside.read("")
        assert caught.value.hint == "compare [etcd] in fleet.ini with etcd's own certificates"


def test_files_that_are_no_certificates_are_named(etcd: EtcdCluster, tmp_path: Path) -> None:
    _, other = make_certificate(tmp_path, "other")
    cert, key = etcd.root
    (text := tmp_path / "text").write_text("hello")
    for ca, one, two, why in (
        (text, cert, key, "text holds no usable PEM certificate"),
        (etcd.ca, text, key, "text and .*root.key do not hold a certificate and its key"),
        (etcd.ca, cert, other, "root.pem and .*other.key do not hold"),
        (etcd.ca, cert, tmp_path / "none", "cannot read .*none: No such file"),
    ):
        with pytest.raises(ConfigError, match=why):
            credentials(ca, one, two)


def test_an_endpoint_that_fails_is_replaced(etcd: EtcdCluster) -> None:
    dead = f"127.0.0.1:{free_port()}"
    store = Etcd(client(etcd, "member", dead, *etcd.endpoints.split(", ")), "/nts/", 2)
    assert store.write({"a": b"1"}, {})
    store.close()
    with pytest.raises(Unreachable, match=dead):
        Etcd(client(etcd, "member", dead), "/nts/", 2).read("")


def test_without_a_majority_nothing_is_read_or_written(etcd: EtcdCluster) -> None:
    store = Etcd(client(etcd, "member"), "/nts/", 2)
    store.write({"a": b"1"}, {})
    try:
        etcd.kill(0)
        assert store.write({"a": b"2"}, {}), "two of three do"
        etcd.kill(1)
        with pytest.raises(Unreachable):
            store.read("a")
        with pytest.raises(Unreachable):
            store.write({"a": b"3"}, {})
    finally:
        for i in range(2):
            if etcd.members[i] is None:
                etcd.start(i)
    etcd.wait()
    assert store.read("a")["a"].value in (b"2", b"3")
    store.close()
