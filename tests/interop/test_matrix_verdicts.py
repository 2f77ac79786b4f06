# SPDX-License-Identifier: MIT
"""What the interop matrix reads from packets, and what its tables say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testkit.browser import PALE, browser
from tools.interop import document, evidence, network, page, report
from tools.interop.cases import CASES, Unsupported
from tools.interop.evidence import Evidence, Reply, Request
from tools.interop.report import Record
from tools.interop.run import Grade

SERVER = f"{network.SERVER}:123"
PLAIN = Request(1, SERVER, 228, 0)
REFILL = Request(3, SERVER, 436, 2)
SOUND = Evidence(1, [PLAIN, REFILL], {1: Reply(228, False, 1), 3: Reply(436, False, 3)}, {15}, {"aabb", "ccdd"}, True)
NAKED = replace(SOUND, exchanges=2, replies={1: Reply(84, True, None)})


@pytest.mark.parametrize(
    ("case", "seen", "faults"),
    [
        ("refill", SOUND, []),
        ("refill", replace(SOUND, requests=[PLAIN]), ["client: after the loss it asks for one cookie at a time"]),
        ("refill", replace(SOUND, replies={3: Reply(436, False, 2)}),
         ["server: 2 cookies for a request that asks for 3"]),
        ("refill", replace(SOUND, replies={3: Reply(436, False, None)}), []),  # nobody can read it
        ("rotation", SOUND, []),
        ("rotation", replace(SOUND, key_ids={"aabb"}), ["server: its cookies show no new master key"]),
        ("rotation", replace(SOUND, key_ids={"aabb"}, readable=False), []),
        ("rotation", NAKED, ["server: it refuses cookies of its previous master key"]),
        ("rotation", replace(SOUND, exchanges=2),
         ["client: it makes another key exchange though its cookies are good"]),
        ("nak", NAKED, []),
        ("nak", replace(SOUND, exchanges=2),
         ["server: it answers nothing to a cookie that it cannot open, and no NTS NAK"]),
        ("expired", replace(NAKED, exchanges=1), ["client: it makes no other key exchange"]),
        ("aead-15", SOUND, []),
        ("port", replace(SOUND, requests=[replace(PLAIN, target=f"{network.SERVER}:4123")]), []),
        ("port", SOUND, [f"client: it asks {SERVER} and not {network.SERVER}:4123"]),
        ("server", SOUND, [f"client: it asks {SERVER} and not {network.OTHER}:123"]),
        ("ipv6", SOUND, [f"client: it asks {SERVER} and not [{network.SERVER6}]:123"]),
        ("large-cookies", replace(SOUND, algorithms={17}), []),
        ("large-cookies", replace(SOUND, algorithms={17}, requests=[PLAIN]),
         ["client: after the loss it asks for one cookie at a time"]),
    ],
)  # fmt: skip
def test_packets_are_judged(case: str, seen: Evidence, faults: list[str]) -> None:
    assert [f.text for f in CASES[case].judge(seen, CASES[case])] == faults


@pytest.mark.parametrize(
    ("algorithms", "why"), [({15}, "and they agree on 15"), ({15, 17}, "15, 17"), (set(), "nobody sees which")]
)
def test_an_algorithm_that_nobody_was_held_to_is_no_fault(algorithms: set[int], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        list(CASES["aead-30"].judge(replace(SOUND, algorithms=algorithms), CASES["aead-30"]))


def ntp(frame: int, mode: int, **more: Any) -> dict[str, Any]:
    header = {"mode": mode, "stratum": 1, "reference_id": "GPS"}
    ends = {"source": "192.0.2.2:5", "target": SERVER}
    return {"kind": "ntp", "frame": frame, **ends, "length": 228, "header": header, "authentic": True, "problems": [],
            **more}  # fmt: skip


def cookie(first: str) -> dict[str, Any]:
    return {"type": 0x0204, "value": [first + 96 * "0"]}


def test_what_the_decoder_says_is_read() -> None:
    wrong = {"severity": "MUST", "wrong": True, "text": "a nonce 0123456789abcdef", "section": "5.6"}
    placeholder = {"type": 0x0304, "value": ["00"]}
    items = [
        {"kind": "ke", "response": {"records": [{"type": 5, "value": "aabb0000"}, {"type": 0, "value": ""}]},
         "problems": []},
        ntp(2, 3, fields=[cookie("aabb"), placeholder], decrypted=[placeholder], problems=[wrong, wrong]),
        ntp(3, 4, reply_to=2, decrypted=[cookie("ccdd"), cookie("ccdd")]),
        ntp(4, 3, fields=[cookie("aabb")], authentic=False),
        ntp(5, 4, reply_to=4, authentic=False, header={"mode": 4, "stratum": 0, "reference_id": "NTSN"}),
        ntp(6, 3),  # plain
    ]  # fmt: skip
    associations = [{"aead": {"id": 17}, "requests": 2}, {"aead": {"id": 15}, "requests": 0}]
    seen = evidence.read({"items": items, "associations": associations, "summary": "so it was"}, 2)
    assert (seen.exchanges, seen.algorithms, seen.key_ids, seen.readable) == (1, {17}, {"aabb", "ccdd"}, True)
    assert seen.requests == [Request(2, SERVER, 228, 2), Request(4, SERVER, 228, 0)]
    assert seen.replies == {2: Reply(228, False, 2), 4: Reply(228, True, None)}
    assert (seen.naks, seen.targets, seen.summary) == (1, {SERVER}, "so it was")
    assert [(p.side, p.text) for p in seen.problems] == [("client", "a nonce ...")]


# --- tables -----------------------------------------------------------------------------------------------------------

GOOD = Record("ours 1", "chrony <2>", "exchange", Grade.OK, "", (), (), (15,), "all decrypted", 1.5)
BAD = replace(
    GOOD, case="nak", grade=Grade.FAILED, faults=(("server: silence", "5.7", "A server <SHOULD> answer."),),
    problems=(("client", "MUST", "closes <abruptly>", "4"),),
)  # fmt: skip
NOT = replace(GOOD, server="chrony <2>", case="aead-30", grade=Grade.UNSUPPORTED, why="has no such algorithm")


def test_results_are_kept_and_found_again(tmp_path: Path) -> None:
    for kept in (NOT, BAD, GOOD):
        (tmp_path / kept.folder).mkdir(parents=True)
        report.keep(kept, tmp_path)
    assert report.load(tmp_path) == [GOOD, BAD, NOT]  # ours first, in the order of the cases


def test_the_table_has_a_mark_for_each_case() -> None:
    head, ours, other, *_ = report.table([GOOD, BAD, NOT], colour=False)
    assert head.split() == ["server", "\\", "client", "chrony", "<2>"]
    assert (ours.split(), other.split()) == (["ours", "1", "E!"], ["chrony", "<2>", "-"])
    assert "\x1b[31;1m!\x1b[0m" in "\n".join(report.table([BAD], colour=True))


def test_the_page_shows_all_and_takes_no_text_for_markup() -> None:
    text = page.page([GOOD, BAD, NOT])
    assert "<2>" not in text
    assert "<SHOULD>" not in text
    assert "<abruptly>" not in text
    assert '<a class="failed" href="ours-1/chrony-&lt;2&gt;/nak/" title="nak: failed: server: silence">N</a>' in text
    assert "A server &lt;SHOULD&gt; answer. (RFC 8915 section 5.7)" in text
    assert "client: closes &lt;abruptly&gt; (MUST, RFC 8915 section 4)" in text
    assert "has no such algorithm" in text
    assert "1 succeeded, 1 failed, 1 unsupported" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_and_loads_nothing(tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "index.html"
    file.write_text(page.page([GOOD, BAD, NOT]))
    with browser() as chromium:
        for width in (1280, 360):  # the table alone may be wider: it scrolls
            chromium.open(file, width, scheme)
            assert chromium.evaluate("document.documentElement.scrollWidth") == width
            assert chromium.evaluate(PALE) == []
            assert chromium.requests == [file.as_uri()]


def test_the_document_names_what_failed_and_the_sentence() -> None:
    text = document.document([GOOD, BAD, NOT])
    assert "ours 1           E!" in text
    fault = "- server: silence. RFC 8915 section 5.7: *A server <SHOULD> answer.*"
    assert f"{fault} 1 cell: server ours 1; client chrony <2>; nak." in text
    assert "- has no such algorithm. 1 cell: server chrony <2>; client chrony <2>; aead-30." in text
