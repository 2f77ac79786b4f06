# SPDX-License-Identifier: MIT
"""nts_check.py site: the order of servers, what a page, a badge and a plot tell, and that nothing in a report harms."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from nts.base.errors import ConfigError
from nts.check.output.grade import LETTERS
from nts.check.site import history, pages, svg
from nts.check.site.make import make
from nts.check.site.plots import MOST, plots
from nts.check.site.svg import Point
from testkit.processes import one_error, run
from testkit.sample_checks import HOSTILE
from testkit.saved_reports import FACTS, report, unreachable, with_facts, write

WORDS = """html head meta title style body header main footer section h1 h2 h3 p a ul li dl dt dd div b span table
thead tbody tr th td caption article figure figcaption svg path text g circle rect details summary"""
TAGS = set(WORDS.split())
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """What a page has: tags, attributes that load or lead, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [v for name in ("href", "src", "srcset", "data", "action") if (v := values.get(name))]
        self.ids += [v] if (v := values.get("id")) else []
        assert not any(name.startswith("on") for name in values)

    def handle_data(self, data: str) -> None:
        self.text += data


def order(*reports: dict[str, Any]) -> list[str]:
    return [server.name for server in history.servers(reports)]


def page_of(*reports: dict[str, Any]) -> str:
    (server,) = history.servers(reports)
    return pages.page(server)


# --- servers and runs ------------------------------------------------------------------------------------------------


def test_servers_are_sorted_by_grade_then_by_failures_and_those_out_of_reach_come_last() -> None:
    graded = [report(f"{i}.example:4460", grade=letter) for i, letter in enumerate(LETTERS)]
    others = [
        unreachable("gone.example:4460"),
        report("open.example:4460", ke_basic="SKIP"),
        report("a-warns.example:4460", grade="A", ke_order="WARN"),
        report("a-fails.example:4460", grade="A", ke_order="FAIL INFO"),
    ]
    expected = ["0.example", "1.example", "a-warns.example", "a-fails.example", *(f"{i}.example" for i in range(2, 6)),
                "open.example", "gone.example"]  # fmt: skip
    assert order(*others, *graded[::-1]) == expected


def test_the_last_run_that_judged_counts_and_a_report_counts_once() -> None:
    facts_only = {**report(day=5, facts=FACTS), "results": []}
    reports = [report(day=2, grade="A"), report(day=1, grade="F"), facts_only, report(day=2, grade="A")]
    (server,) = history.servers(reports)
    assert [r.letter for r in server.runs] == ["F", "A", None]
    assert server.latest.letter == "A"
    assert server.told.facts is not None
    assert server.told.facts.nts.aeads == (15, 30)


def test_a_report_from_before_there_were_grades_gets_one() -> None:
    old = report(ke_order="FAIL SHOULD")
    for name in ("grade", "facts", "ke_pace", "final_pace", "final_ke_pace"):
        del old[name]
    (server,) = history.servers([old])
    assert server.latest.letter == "B"
    assert server.latest.facts is None


def test_each_server_has_a_folder_of_its_own_inside_the_site() -> None:
    names = [
        "time.example.net:4460",
        "time.example.net",
        "TIME.example.net:4460",
        "../../etc:4460",
        "..",
        "[::1]:4460",
        "/",
    ]
    folders = [server.folder for server in history.servers([report(name) for name in names])]
    assert len(set(folders)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", folder) and ".." not in folder for folder in folders), folders
    long = history.servers([report("x" * 500 + c) for c in "ab"])
    assert [len(s.folder) for s in long] == [80, 82]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_the_list_has_a_row_for_each_server() -> None:
    reports = [report(grade="A+", facts=FACTS), report("x:1", ke_basic="FAIL MUST"), unreachable("gone:2")]
    text = Page(pages.index(history.servers(reports))).text
    assert "1 of 3 servers conforms" in text
    for part in ("time.example.net", "X25519MLKEM768 (PQ)", "15, 30", "58 d", "+123 µs", "x:1", "unreachable"):
        assert part in text


def test_a_page_tells_why_and_what_and_since_when() -> None:
    before = report(day=1, facts=FACTS, grade="A")
    now = report(day=2, facts=with_facts([("ntp.stratum", 3)]), grade="C", ke_basic="FAIL MUST", ntp_basic="WARN")
    page = Page(page_of(before, now))
    for part in ("It does not conform: ke-basic.", "why it is no better", "probably chrony", "stratum 3",
                 "regressed ke-basic, PASS before, is FAIL MUST", "ntp.stratum, 1 before, is 3",
                 "what was seen of ntp-basic",
                 "the RFC says", "2 runs", "55 PASS"):  # fmt: skip
        assert part in re.sub(r"\s+", " ", page.text), part
    assert page.text.index("what was seen of ke-basic") < page.text.index("what was seen of ntp-basic")
    assert "ke-basic" in page.ids
    assert page.tags.count("svg") == 4


def test_a_remedy_is_shown_where_the_report_has_one() -> None:
    about = report(ke_basic="FAIL MUST")
    finding = next(r for r in about["results"] if r["verdict"] == "FAIL")
    finding["remedy"] = {"any": "answer as the RFC says", "chrony": "take 4.6 <or newer>"}
    text = Page(page_of(about)).text
    assert "remedyanswer as the RFC says" in text
    assert "chronytake 4.6 <or newer>" in text
    about["facts"] = with_facts([("implementation.name", "NTPsec")])
    text = Page(page_of(about)).text
    assert "remedyanswer as the RFC says" in text
    assert "take 4.6" not in text


def test_one_run_has_no_plots_and_nothing_to_compare_with() -> None:
    page = Page(page_of(report()))
    assert "svg" not in page.tags
    assert "What has changed" not in page.text


@pytest.mark.parametrize("about", [unreachable(), report(ke_basic="PATH?"), {**report(), "results": []}])
def test_a_run_that_judged_little_has_a_page_and_a_badge(about: dict[str, Any]) -> None:
    (server,) = history.servers([about])
    page = Page(pages.page(server)).text
    assert any(text in page for text in ("could not be reached", "Nobody can say", "Only facts are known"))
    assert ET.fromstring(pages.badge(server)).find(f"{SVG}title") is not None


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def hostile(value: Any) -> Any:
    """The same, with every text replaced by what should not reach a page."""
    if isinstance(value, dict):
        return {k: hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize(
    "path", ["evidence", "name", "severity", "section", "group", "target", "facts", "grade", "caps"]
)
def test_nothing_in_a_report_becomes_markup(path: str, tmp_path: Path) -> None:
    about = report(day=1, facts=FACTS, grade="C", ke_basic="FAIL MUST")
    if path in about["results"][5]:
        about["results"][5][path] = HOSTILE
    elif path == "caps":
        about["grade"]["caps"] = hostile(about["grade"]["caps"])
    else:
        about[path] = hostile(about[path])
    earlier = {**report(day=0, facts=FACTS, grade="A"), "target": about["target"]}
    make(tmp_path / "site", [write(tmp_path / "r.jsonl", earlier, about)])
    for file in files_of(tmp_path / "site"):
        text = file.read_text()
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "<script>" not in text
        if file.suffix == ".html":
            assert set(Page(text).tags) <= TAGS
        else:
            ET.fromstring(text)


@pytest.mark.parametrize(
    "told",
    [
        {}, [], "x", 1, {"ke": 1}, {**FACTS, "ke": {}}, {**FACTS, "ntp": {"plain": 3}}, {**FACTS, "nts": {"aeads": 7}},
        with_facts([("ntp.offset_s", "soon"), ("certificate.days_left", [1])]),
        with_facts([("certificate.days_left", "x")]),
        with_facts([("ntp.offset_s", 1e300), ("ntp.offset_bound_s", float("nan")), ("certificate.days_left", 1e400)]),
    ],
)  # fmt: skip
def test_odd_facts_end_no_site(told: object, tmp_path: Path) -> None:
    about = [{**report(day=d, grade="A"), "facts": told} for d in (1, 2)]
    assert make(tmp_path / "site", [write(tmp_path / "r.jsonl", *about)]) == (1, 2)


@pytest.mark.parametrize(
    "odd", [1, "A", {}, {"letter": "Z", "caps": []}, {"letter": "A"}, {"letter": "A", "caps": [1, {}]}]
)
def test_an_odd_grade_is_none(odd: object) -> None:
    (server,) = history.servers([{**report(ke_basic="SKIP"), "grade": odd}])
    assert server.latest.letter in (None, "A")
    pages.page(server)


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", LETTERS)
def test_a_badge_says_the_grade_in_its_colour(letter: str) -> None:
    (server,) = history.servers([report(grade=letter)])
    root = ET.fromstring(pages.badge(server))
    assert [t.text for t in root.iter(f"{SVG}text")] == ["NTS", letter]
    assert root.get("aria-label") == f"NTS: {letter}"
    assert svg.LETTER_COLOURS[letter] in pages.badge(server)


def test_the_pages_have_the_colours_of_the_badges() -> None:
    style = (Path(pages.__file__).with_name("site.css")).read_text()
    for letter, colour in svg.LETTER_COLOURS.items():
        assert f".g-{letter.replace('+', 'p')} {{ --g: {colour}; }}" in style


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 4, [0, 1, 2, 3, 4]), (0, 100, [0, 50, 100]), (-3, 3, [-4, -2, 0, 2, 4]), (5, 5, None), (0, 0, None),
     (1e-9, 2e-9, None), (-1e11, 1e11, None)],
)  # fmt: skip
def test_ticks_are_round_few_and_hold_all_values(low: float, high: float, expected: list[float] | None) -> None:
    ticks = svg.nice(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low <= high <= ticks[-1] + 1e-9 * abs(high)
    assert expected is None or ticks == expected


def test_a_plot_has_a_mark_for_each_value_inside_its_frame() -> None:
    points = [Point(86400.0 * i, i * i - 3.5, f"day {i}", error=i) for i in range(20)]
    root = ET.fromstring(svg.line("squares", points).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" '))
    circles = list(root.iter(f"{SVG}circle"))
    assert len(circles) == 20
    for circle in circles:
        assert 0 < float(circle.get("cx", "")) < svg.WIDTH
        assert 0 < float(circle.get("cy", "")) < svg.HEIGHT
    assert [t.text for t in root.iter(f"{SVG}title")] == [f"day {i}" for i in range(20)]
    assert {"1970-01-01", "1970-01-20"} <= {t.text for t in root.iter(f"{SVG}text")}


def test_plots_are_of_what_is_known_and_of_no_more_runs_than_can_be_told_apart() -> None:
    runs = [history.Run(report(day=d)) for d in range(3)]
    assert [caption.split()[0] for caption, _ in plots(runs)] == ["Grade;", "Checks"]
    assert list(plots([history.Run(unreachable())] * 2)) == []
    many = [history.Run(report(day=d, facts=FACTS, grade="A")) for d in range(MOST + 9)]
    found = dict(plots(many))
    assert [caption.split()[0] for caption in found] == ["Grade;", "Checks", "Offset", "Days"]
    assert next(iter(found.values())).count("<circle") == MOST


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_same_reports_make_the_same_site_again(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", report(day=1, facts=FACTS, grade="A"), report(day=2), unreachable("x:1"))
    contents = []
    for _ in range(2):
        done = run("nts_check.py", "site", "site", file, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "2 servers, 3 reports: open site/index.html" in done.stderr
        contents.append({p.relative_to(tmp_path): p.read_bytes() for p in files_of(tmp_path / "site")})
    assert contents[0] == contents[1]
    assert sorted(map(str, contents[0])) == [
        "site/index.html", "site/time.example.net/badge.svg", "site/time.example.net/index.html",
        "site/x_1/badge.svg", "site/x_1/index.html",
    ]  # fmt: skip


def test_links_lead_to_files_of_the_site(tmp_path: Path) -> None:
    make(
        tmp_path / "site", [write(tmp_path / "r.jsonl", report(ke_basic="FAIL MUST", grade="C"), report("[::1]:4461"))]
    )
    for file in (tmp_path / "site").rglob("*.html"):
        page = Page(file.read_text())
        for link in page.links:
            assert link[1:] in page.ids if link.startswith("#") else (file.parent / link).is_file(), link


def test_a_site_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<h1>my site</h1>")
    with pytest.raises(ConfigError, match="is no page of nts_check site"):
        make(tmp_path, [write(tmp_path / "r.json", report())])
    assert (tmp_path / "index.html").read_text() == "<h1>my site</h1>"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["site", "none.json"], "none.json does not exist"),
        (["r.json", "r.json"], "cannot make r.json: File exists"),
        (["none/site", "r.json"], "cannot make none/site: No such file"),
        (["site", "client.json"], "is about a client"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    write(tmp_path / "r.json", report())
    write(tmp_path / "client.json", {**report(), "command": "client"})
    one_error(run("nts_check.py", "site", *arguments, cwd=tmp_path), 2, complaint)
