# SPDX-License-Identifier: MIT
"""nts_check's reports, as JSON, JUnit XML and HTML: what is in them, and how the files are written."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from nts.base.errors import ConfigError
from nts.check.output import as_html, summary
from nts.check.output.render import Options, Reporter, write
from testkit import sample_checks
from testkit.processes import ROOT
from testkit.sample_checks import SCHEMA, show

# --- JSON ------------------------------------------------------------------------------------------------------------


def json_of(capsys: pytest.CaptureFixture[str], *, verbose: bool = False) -> dict[str, Any]:
    show(Options(json=True, verbose=verbose))
    captured = capsys.readouterr()
    assert captured.err == ""
    values: dict[str, Any] = json.loads(captured.out)
    return values


@pytest.mark.parametrize("verbose", [False, True])
def test_json_is_as_its_schema_says(capsys: pytest.CaptureFixture[str], verbose: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    values = json_of(capsys, verbose=verbose)
    jsonschema.validate(values, SCHEMA)
    assert {r["name"]: r["verdict"] for r in values["results"]} == {
        name: verdict.value for name, verdict in sample_checks.verdicts().items()
    }
    counts = {"planned": 8, "checks": 8, "pass": 2, "warn": 2, "fail": 2, "path": 1, "skip": 1, "exit_code": 1}
    assert {k: values["summary"][k] for k in counts} == counts
    assert values["summary"]["failures"] == {"CRIT": 0, "MUST": 1, "SHOULD": 1, "INFO": 0}
    assert values["summary"]["conforms"] is False
    assert (values["seed"], values["pace"], values["target"]) == (42, 0.5, "time.example.net")
    assert ("exhibits" in values["results"][0]) == verbose


def test_the_schema_refuses_what_is_not_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    values = json_of(capsys)
    for path, wrong in (("verdict", "GOOD"), ("severity", "MAY"), ("surprise", 1)):
        result = {**values["results"][0], path: wrong}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**values, "results": [result]}, SCHEMA)


def test_every_member_of_the_json_is_explained() -> None:
    documented = (ROOT / "docs/nts_check.md").read_text()
    definitions = SCHEMA["$defs"]
    result = definitions["result"]["properties"]
    for name in {*definitions["report"]["properties"], *result, *definitions["summary"]["properties"]}:
        assert f"`{name}`" in documented, name


# --- JUnit XML -------------------------------------------------------------------------------------------------------


def test_junit_has_a_failure_only_for_what_decides_the_exit_code(tmp_path: Path) -> None:
    show(Options(json=True, junit=tmp_path / "r.xml"))
    root = ET.parse(tmp_path / "r.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures"), root.get("skipped")) == ("testsuites", "8", "1", "2")
    assert [s.get("name") for s in root.findall("testsuite")] == ["TLS and ALPN", "NTS-KE messages", "NTP packets"]
    kinds = {c.get("name"): [child.tag for child in c] for c in root.iter("testcase")}
    assert kinds == {
        "tls13-only": [], "alpn-absent": ["failure"], "ke-crit-unknown": [], "ke-truncated": ["system-out"],
        "ke-aead-15-last": ["system-out"], "ke-aead-menu": ["skipped"], "ntp-placeholder-encrypted": ["skipped"],
        "ntp-ef-placement": ["system-out"],
    }  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "MUST: served 8 cookies to a client that did not offer ALPN at all"
    assert "RFC 8915 section 4: ALPN is required" in (failure.text or "")
    for suite in root.findall("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp") or "")


# --- HTML ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that what is opened is closed, and collects what a reader and a browser see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(folder: Path) -> tuple[str, Page]:
    show(Options(json=True, html=folder / "r.html"))
    source = (folder / "r.html").read_text()
    return source, Page(source)


def test_the_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    source, page = page_of(tmp_path)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(names)
    assert not re.search(r"url\(|@import|https?://", source)
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a in ("src", "style") or a.startswith("on")]
        assert tag != "a" or (attributes["href"] or "").startswith("#")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids)) == 8
    assert {a["href"] for t, a in page.tags if t == "a"} == {f"#{i}" for i in ids}
    for needed in ("prefers-color-scheme: dark", "@media print", "max-width: 44rem", "default-src 'none'", "viewport"):
        assert needed in source


def test_the_page_shows_findings_whole_and_folds_what_passed(tmp_path: Path) -> None:
    _, page = page_of(tmp_path)
    words = " ".join(page.words)
    assert [a["id"] for t, a in page.tags if t == "details"] == ["tls13-only", "ke-crit-unknown"]
    assert [a["id"] for t, a in page.tags if t == "article"] == [
        "alpn-absent", "ke-aead-15-last", "ntp-placeholder-encrypted", "ke-truncated", "ntp-ef-placement",
        "ke-aead-menu",
    ]  # fmt: skip
    for expected in (
        "The server does not conform: alpn-absent", "New Cookie for NTPv4          <100 octets>",
        "ALPN is required, and the protocol is ntske/1.", "no cookies come", "65520 unknown (399 times), 15 AEAD",
        "packets over 228 octets vanish", "seed",
    ):  # fmt: skip
        assert expected in words
    for section in ("What to look at", "All checks", "Passed"):
        assert section in page.words


def test_a_page_where_all_is_well_has_no_findings() -> None:
    results = tuple(sample_checks.results("tls13-only"))
    report = summary.Report("server", "h:1", 0, None, None, planned=1, results=results)
    page = Page(as_html.page(report))
    assert "What to look at" not in page.words
    assert "Every check passes." in page.words


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_report_replaces_the_old_one_whole_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    (tmp_path / "link.html").symlink_to(path)
    umask = os.umask(0o022)
    try:
        write(tmp_path / "link.html", "new")
    finally:
        os.umask(umask)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.html", "r.html"]


def test_a_place_that_cannot_be_written_is_an_error_before_anything_is_checked(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for options, complaint in (
        (Options(html=tmp_path / "none" / "r.html"), "there is no folder"),
        (Options(junit=tmp_path / "folder"), "it exists and is not a file"),
        (Options(html=Path("/dev/null")), "it exists and is not a file"),
        (Options(html=tmp_path / "r", junit=tmp_path / "folder/../r"), "two reports cannot be one file"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            Reporter("server", "h", [], options, intro="")


def test_a_full_disk_is_one_error_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nts.system.files.rename", full)
    with pytest.raises(ConfigError, match=r"cannot write .*r\.html: No space left on device"):
        write(tmp_path / "r.html", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_an_error_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ConfigError, match="permission denied"):
        Options(html=tmp_path / "r.html").check()
