# SPDX-License-Identifier: MIT
"""What the packets of a cell tell, as `nts_check.py decode` reads them with the keys that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testkit.processes import ROOT

_COOKIE, _PLACEHOLDER = 0x0204, 0x0304
_PATIENCE = 60.0  # seconds for a capture to be decoded


@dataclass(frozen=True)
class Request:
    """A time request with NTS."""

    frame: int
    target: str
    length: int
    placeholders: int


@dataclass(frozen=True)
class Reply:
    """What came for it."""

    length: int
    nak: bool
    cookies: int | None
    """how many are in it; None when it could not be read"""


@dataclass(frozen=True, order=True)
class Problem:
    """A rule that somebody breaks, as the decoder says it."""

    side: str
    """who sent the packet, server or client; NTS-KE where it is about a key exchange"""
    severity: str
    text: str
    section: str


@dataclass
class Evidence:
    """A capture, read."""

    exchanges: int = 0
    """connections of NTS-KE in which TLS was spoken"""
    requests: list[Request] = field(default_factory=list)
    replies: dict[int, Reply] = field(default_factory=dict)
    """by the frame of the request"""
    algorithms: set[int] = field(default_factory=set)
    key_ids: set[str] = field(default_factory=set)
    """what the servers' cookies begin with, which tells master keys apart"""
    readable: bool = False
    """whether extension fields could be decrypted"""
    problems: set[Problem] = field(default_factory=set)
    summary: str = ""

    @property
    def naks(self) -> int:
        """How many NTS NAKs came."""
        return sum(r.nak for r in self.replies.values())

    @property
    def targets(self) -> set[str]:
        """Where the client asked for the time."""
        return {r.target for r in self.requests}


def collect(folder: Path, keys: list[str], ntp_port: int, key_id_octets: int) -> Evidence:
    """Decode the capture in a cell's folder, keep the result there as text and as JSON, and read it.

    `keys` are options of decode, `key_id_octets` how many octets of a cookie name its master key.
    """
    command = [sys.executable, str(ROOT / "nts_check.py"), "decode", "capture.pcap", "--ntp-port", str(ntp_port), *keys]
    try:
        done = subprocess.run(
            [*command, "--json", "--show-secrets"], cwd=folder, capture_output=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{folder / 'capture.pcap'} cannot be decoded within {_PATIENCE:g} s") from None
    (folder / "decoded.json").write_bytes(done.stdout)
    if not done.stdout:
        raise OSError(f"decode: {done.stderr.decode(errors='replace').strip()}")
    return read(json.loads(done.stdout), key_id_octets)


def read(decoded: dict[str, Any], key_id_octets: int) -> Evidence:
    """What `decode --json --show-secrets` has found."""
    evidence = Evidence(
        algorithms={a["aead"]["id"] for a in decoded["associations"] if a["requests"]}, summary=decoded["summary"]
    )
    for item in decoded["items"]:
        if item["kind"] == "ke":
            evidence.exchanges += 1
            side = "NTS-KE"
            if "response" in item:
                records = item["response"]["records"]
                evidence.key_ids |= {r["value"][: 2 * key_id_octets] for r in records if r["type"] == 5}
        else:
            side = _ntp(item, evidence, key_id_octets)
        for problem in item["problems"]:
            if problem["wrong"]:
                evidence.problems.add(Problem(side, problem["severity"], _general(problem["text"]), problem["section"]))
    return evidence


def _ntp(item: dict[str, Any], evidence: Evidence, key_id_octets: int) -> str:
    header, fields = item["header"], item.get("fields", [])
    if header["mode"] == 3:
        kinds = [f["type"] for f in (*fields, *(item.get("decrypted") or ()))]
        if _COOKIE in kinds:
            placeholders = kinds.count(_PLACEHOLDER)
            evidence.requests.append(Request(item["frame"], item["target"], item["length"], placeholders))
            evidence.key_ids |= _key_ids(fields, key_id_octets)
        return "client"
    if "reply_to" in item:
        inner = item.get("decrypted") or []
        cookies = sum(f["type"] == _COOKIE for f in inner) if item["authentic"] else None
        evidence.readable |= item["authentic"]
        evidence.key_ids |= _key_ids(inner, key_id_octets)
        nak = header["stratum"] == 0 and header["reference_id"] == "NTSN"
        evidence.replies[item["reply_to"]] = Reply(item["length"], nak, cookies)
    return "server"


def _key_ids(fields: Iterable[dict[str, Any]], octets: int) -> set[str]:
    return {str(f["value"][0])[: 2 * octets] for f in fields if f["type"] == _COOKIE}


def _general(text: str) -> str:
    """A problem's text without what differs from packet to packet."""
    return re.sub(r"\b[0-9a-f]{8,}\b", "...", text)
