# SPDX-License-Identifier: MIT
"""What nts_check.py site makes, looked at by a real browser: wide and narrow, light and dark, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nts.check.site.make import make
from testkit.browser import OVERFLOWING, PALE, Browser, browser
from testkit.sample_checks import HOSTILE
from testkit.saved_reports import FACTS, report, unreachable, with_facts, write

LONG = "a-name-that-is-rather-long-for-a-server-" + "x" * 20 + ".example.net:4461"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with servers of all kinds."""
    folder = tmp_path_factory.mktemp("site")
    offsets = [("ntp.offset_s", 1e-4), ("ntp.offset_bound_s", 2e-3), ("certificate.days_left", 3)]
    odd = report(
        "evil.example.net:4460", grade="C", facts=with_facts([("ke.group", HOSTILE * 5)]), ke_basic="FAIL MUST"
    )
    odd["results"][5]["evidence"] = odd["results"][6]["name"] = HOSTILE * 5 + "x" * 300
    reports = [
        *(report(day=d, facts=FACTS, grade="A+") for d in range(5)),
        unreachable(day=5),
        report(day=6, facts=with_facts(offsets), grade="C", ke_basic="FAIL MUST", ntp_basic="WARN", ke_order="SKIP"),
        report(LONG, facts=FACTS, grade="F", ntp_basic="FAIL CRIT"),
        *(report(f"{letter}.example.net:4460", grade=letter) for letter in "ABD"),
        report("open.example.net:4460", ke_basic="SKIP"),
        unreachable("gone.example.net:4460"),
        odd,
    ]
    make(folder / "site", [write(folder / "r.jsonl", *reports)])
    return folder / "site"


PAGES = ["", "time.example.net", "evil.example.net", LONG.replace(":", "_"), "gone.example.net"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800, 360])
@pytest.mark.parametrize("page", PAGES, ids=["list", "history", "hostile", "long", "unreachable"])
def test_a_page_fits_can_be_read_and_loads_nothing(
    chromium: Browser, site: Path, tmp_path: Path, page: str, width: int, scheme: str
) -> None:
    file = site / page / "index.html"
    chromium.open(file, width, scheme)
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    assert chromium.evaluate(OVERFLOWING) == []
    assert chromium.evaluate(PALE) == []
    assert chromium.requests == [file.as_uri()]
    assert not chromium.evaluate("document.scripts.length")
    back = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(253, 253, 251)", "dark": "rgb(20, 23, 26)"}[scheme]
    chromium.screenshot(tmp_path / "page.png")  # for whoever looks into the test's folder
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_links_lead_from_the_list_to_a_server_and_back(chromium: Browser, site: Path) -> None:
    chromium.open(site / "index.html", 1280, "light")
    target = chromium.evaluate("document.querySelector('.server a').href")
    assert target == (site / "a.example.net" / "index.html").as_uri()
    chromium.open(site / "a.example.net" / "index.html", 1280, "light")
    assert chromium.evaluate("document.querySelector('.tool a').href") == (site / "index.html").as_uri()


def test_a_badge_is_a_picture_whose_text_fits(chromium: Browser, site: Path) -> None:
    for name in ("time.example.net", "gone.example.net", "open.example.net"):
        chromium.open(site / name / "badge.svg", 360, "light")
        outside = chromium.evaluate(
            "(() => { const w = document.documentElement.width.baseVal.value;"
            " return [...document.querySelectorAll('text')].filter(t => { const b = t.getBBox();"
            " return b.x < 2 || b.x + b.width > w - 2; }).map(t => t.textContent); })()"
        )
        assert outside == []


def test_what_a_page_must_not_have_is_found(chromium: Browser, tmp_path: Path) -> None:
    """The looks above can fail."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<body style="background:#fff"><p style="width:500px">wide</p><p style="color:#aaa">pale</p>'
        '<p style="font-size:8px">small</p><img src="http://192.0.2.1/x.png">'
    )
    chromium.open(page, 360, "light")
    assert "wide" in str(chromium.evaluate(OVERFLOWING))
    pale = str(chromium.evaluate(PALE))
    assert "pale" in pale
    assert "small" in pale
    assert "http://192.0.2.1/x.png" in chromium.requests
