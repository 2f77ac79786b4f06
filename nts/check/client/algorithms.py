# SPDX-License-Identifier: MIT
"""C24: AEAD 30, AES-128-GCM-SIV, whose keys some clients extract with 15 in the exporter context (section 5.1).

They did so before record 1024 was assigned, with which both sides confirm that they use 30. The case looks at which of
the two keys seals the client's first request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nts.base.registry import RecordType
from nts.check.client import judge
from nts.check.client.probe import ClientProbe, until_accepted, until_asked
from nts.check.model import Finding, Group, Severity, failed, passed, skipped, warned
from nts.check.peer import SOUND_KE, KeTalk, craft
from nts.check.peer.faults.exchange import parsed
from nts.codec.aead import Aead, SessionKeys, possible_contexts
from nts.codec.records import encode_u16s, u16_list

_GCM_SIV = Aead.AES_128_GCM_SIV
GROUP: Group[ClientProbe] = Group("Algorithms")


@GROUP.check(
    "C24", "client-aead-30", section="5.1", severity=Severity.INFO, ref="A40 A94",
    sends="If the client offers AEAD 30 (AES-128-GCM-SIV): a response that agrees on it, with and without record 1024.",
    expects="Both times the client extracts its keys with 30 in the exporter context, or it does not offer AEAD 30.",
    rule="The exporter context holds the number of the agreed algorithm.",
)  # fmt: skip
def client_aead_30(probe: ClientProbe) -> Iterator[Finding]:
    with probe.scene(what="sound servers") as scene:
        seen = scene.meet(until=until_accepted)
    requests = [s.received for s in seen.sessions if s.received]
    if not requests:
        yield skipped("no NTS-KE request came")
        return
    offered = [i for r in parsed(requests[0]) if r.type == RecordType.AEAD_ALGORITHM for i in u16_list(r)]
    if _GCM_SIV not in offered:
        yield passed(f"offers {', '.join(map(str, offered))}: AEAD 30 is not among them")
        return
    for echo in (True, False):
        yield from _context(probe, echo)


def _context(probe: ClientProbe, echo: bool) -> Iterator[Finding]:
    """Which keys the client uses for AEAD 30."""
    candidates: list[tuple[int, SessionKeys]] = []

    def agree(talk: KeTalk) -> None:
        talk.request()
        candidates.extend((c, talk.export(_GCM_SIV, c)) for c in possible_contexts(_GCM_SIV, confirmed=False))
        more = craft.record(RecordType.COMPLIANT_CONTEXT, critical=False) if echo else b""
        more += craft.record(RecordType.PORT, encode_u16s(talk.behaviour.ntp_port))
        talk.send(craft.response(aeads=encode_u16s(_GCM_SIV), more=more))

    what = f"AEAD 30 {'with' if echo else 'without'} record 1024"
    with probe.scene(what=what, ke=replace(SOUND_KE, answer=agree)) as scene:
        seen = scene.meet(until=until_asked(1), wait=judge.SHORT)
    yield from judge.careful(seen)
    used = {c for talk in seen.nts_requests for c, keys in candidates if talk.is_sealed_with(keys)}
    if used == {_GCM_SIV}:
        yield passed(f"{what}: keys with 30 in the context")
    elif not used:
        yield skipped(f"{what}: no request that fits either key ({judge.did(seen)})")
    elif echo:
        yield failed(f"{what}: keys with 15 in the context")
    else:
        yield warned(f"{what}: keys with 15 in the context, like chrony before that record")
