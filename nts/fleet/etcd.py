# SPDX-License-Identifier: MIT
"""The plan in etcd: ranges, transactions, a lease, a watch, and the role that `init` makes; TLS, client certificates.

The calls are gRPC's own; the package aetcd has their generated definitions. (Its client knows no TLS.) Reads are
linearizable. An endpoint that fails is replaced by the next one.
"""

from __future__ import annotations

import contextlib
import os
import queue
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what fails is reported here

import grpc
from aetcd import rpc

from nts.base.errors import ConfigError, NTSError
from nts.base.text import harmless
from nts.fleet.store import LEADER, PLAN, Item, Refused, Unreachable
from nts.system import files

_TIMEOUT = 3.0  # seconds for a call
_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_NEWS = "shared/news"  # between leader and plan: what is watched. The plan itself would be sent to everybody twice.
_WITH_LEADER = (("hasleader", "true"),)  # end the watch when this member is cut off from the others
_FINAL = {  # no other endpoint would say anything else
    grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND,
}  # fmt: skip


_MEANINGS = (  # of what gRPC says
    ("Connection refused", "connection refused"),
    ("Deadline Exceeded", f"no answer in {_TIMEOUT:.0f} s"),
    ("errors resolving", "no such name"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not from the CA in [etcd] ca"),
    ("Hostname Verification", "its certificate is for another name"),
    ("TSI_DATA_CORRUPTED", "it refuses the certificate of this host"),
)
_FILES_HINT = 'docs/fleet.md, "Set it up", describes the files'


def credentials(ca: Path, cert: Path, key: Path) -> Any:
    """Of a client. ConfigError when a file cannot be used, which gRPC would only say later, and not why."""
    texts = [files.read(path, hint=_FILES_HINT) for path in (ca, key, cert)]
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ConfigError(f"{ca} holds no usable PEM certificate", hint=_FILES_HINT) from None
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError:
        raise ConfigError(
            f"{cert} and {key} do not hold a certificate and its key without a password, in PEM", hint=_FILES_HINT
        ) from None
    return grpc.ssl_channel_credentials(*texts)


def _reason(details: str) -> str:
    """Why an endpoint gave no answer."""
    return next((meaning for sign, meaning in _MEANINGS if sign in details), harmless(details, 120))


def _end(prefix: bytes) -> bytes:
    """The first key after all that start with the prefix, which has a last octet below 255."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Cluster:
    """Calls to whichever endpoint answers."""

    def __init__(self, endpoints: tuple[str, ...], tls: Any) -> None:
        self._names = endpoints
        self._channels = [grpc.secure_channel(e, tls, options=_OPTIONS) for e in endpoints]
        self._current = 0

    def call(self, stub: Any, method: str, request: Any) -> Any:
        """One answer. Unreachable when no endpoint gives one, Refused when it is an error."""
        failures: dict[str, list[str]] = {}
        for _ in self._channels:
            current = self._current
            try:
                return getattr(stub(self._channels[current]), method)(request, timeout=_TIMEOUT)
            except grpc.RpcError as e:
                reason = _reason(e.details() or e.code().name)
                if e.code() in _FINAL:
                    raise Refused(f"etcd refuses: {self._names[current]}: {reason}") from None
                failures.setdefault(reason, []).append(self._names[current])
                self._next(current)
        reasons = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in failures.items())
        hint = "compare [etcd] in fleet.ini with etcd's own certificates" if "certificate" in reasons else None
        raise Unreachable(f"etcd is out of reach: {reasons}", hint=hint) from None

    def keep_alive(self, lease: int) -> int:
        """Seconds for which the lease lives on; 0: it is gone."""
        request = iter([rpc.LeaseKeepAliveRequest(ID=lease)])
        channel = self._channels[self._current]
        try:
            return int(next(rpc.LeaseStub(channel).LeaseKeepAlive(request, timeout=_TIMEOUT)).TTL)
        except (grpc.RpcError, StopIteration):
            self._next(self._current)
            raise Unreachable("etcd is out of reach: the lease cannot be kept alive") from None

    def watch(self, requests: Iterator[Any]) -> Any:
        """A stream of changes, of the endpoint that answered last."""
        return rpc.WatchStub(self._channels[self._current]).Watch(requests, metadata=_WITH_LEADER)

    def _next(self, failed: int) -> None:
        if self._current == failed:  # the watch may have moved on already
            self._current = (failed + 1) % len(self._channels)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


class Etcd:
    """`store.Store` below a prefix."""

    def __init__(self, cluster: Cluster, prefix: str, lease_seconds: int) -> None:
        self._cluster, self._prefix, self._lease_seconds = cluster, prefix.encode(), lease_seconds
        self._lease = 0
        self._changed, self._closed = threading.Event(), threading.Event()
        self._watcher: threading.Thread | None = None

    def read(self, prefix: str, since: int = 0) -> dict[str, Item]:
        start = self._prefix + prefix.encode()
        request = rpc.RangeRequest(key=start, range_end=_end(start), min_mod_revision=since + 1 if since else 0)
        found = self._cluster.call(rpc.KVStub, "Range", request).kvs
        return {kv.key[len(self._prefix) :].decode(): Item(kv.value, kv.mod_revision) for kv in found}

    def write(self, changes: Mapping[str, bytes | None], expected: Mapping[str, int], *, mortal: bool = False) -> bool:
        if mortal and not self._lease:
            self.beat()
        compare = [
            rpc.Compare(
                key=self._prefix + name.encode(),
                target=rpc.Compare.MOD,
                result=rpc.Compare.EQUAL,
                mod_revision=revision,
            )
            for name, revision in expected.items()
        ]
        operations = [self._operation(name, value, self._lease if mortal else 0) for name, value in changes.items()]
        if PLAN in changes:
            operations.append(self._operation(_NEWS, b"", 0))
        request = rpc.TxnRequest(compare=compare, success=operations)
        return bool(self._cluster.call(rpc.KVStub, "Txn", request).succeeded)

    def _operation(self, name: str, value: bytes | None, lease: int) -> Any:
        key = self._prefix + name.encode()
        if value is None:
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))

    def beat(self) -> bool:
        if self._lease and self._cluster.keep_alive(self._lease):
            return True
        request = rpc.LeaseGrantRequest(TTL=self._lease_seconds)
        self._lease = self._cluster.call(rpc.LeaseStub, "LeaseGrant", request).ID
        return False

    def wait(self, seconds: float) -> bool:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
            self._watcher.start()
        has_changed = self._changed.wait(seconds)
        if has_changed:
            self._changed.clear()
        return has_changed

    def watch_request(self) -> Any:
        """To be told of changes of plan and leader."""
        start, end = (self._prefix + name.encode() for name in (LEADER, PLAN))
        return rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=start, range_end=end))

    def _watch(self) -> None:
        """Set `_changed` for each change, and after each break, which may have hidden one."""
        while not self._closed.is_set():
            requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            requests.put(self.watch_request())  # more never come: an end of the requests would end the watch
            with contextlib.suppress(grpc.RpcError, ValueError):  # ValueError: the channel is closed
                for _ in self._cluster.watch(iter(requests.get, None)):
                    self._changed.set()
            requests.put(None)
            self._changed.set()
            self._closed.wait(1)

    def close(self) -> None:
        self._closed.set()
        if self._lease:
            with contextlib.suppress(NTSError):
                self._cluster.call(rpc.LeaseStub, "LeaseRevoke", rpc.LeaseRevokeRequest(ID=self._lease))
        self._cluster.close()


def grant(cluster: Cluster, prefix: str, role: str, users: tuple[str, ...], *, enable: bool) -> None:
    """As etcd's root: a role that can read and write below the prefix and nothing else, for these users.

    A user is the common name of a client certificate, without a password. `enable`: from now on etcd asks for rights.
    """
    permission = rpc.Permission(permType=rpc.Permission.READWRITE, key=prefix.encode(), range_end=_end(prefix.encode()))
    _unless_there(cluster, "RoleAdd", rpc.AuthRoleAddRequest(name=role))
    cluster.call(rpc.AuthStub, "RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission))
    for user in users:
        _with_role(cluster, user, role)
    if enable:
        _unless_there(cluster, "RoleAdd", rpc.AuthRoleAddRequest(name="root"))
        _with_role(cluster, "root", "root")
        cluster.call(rpc.AuthStub, "AuthEnable", rpc.AuthEnableRequest())


def _with_role(cluster: Cluster, user: str, role: str) -> None:
    options = rpc.UserAddOptions(no_password=True)
    _unless_there(cluster, "UserAdd", rpc.AuthUserAddRequest(name=user, options=options))
    cluster.call(rpc.AuthStub, "UserGrantRole", rpc.AuthUserGrantRoleRequest(user=user, role=role))


def _unless_there(cluster: Cluster, method: str, request: Any) -> None:
    try:
        cluster.call(rpc.AuthStub, method, request)
    except Refused as e:
        if "already exists" not in str(e):
            raise
