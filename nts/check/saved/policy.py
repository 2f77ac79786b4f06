# SPDX-License-Identifier: MIT
"""What an operator promises about servers, read from an INI file, and whether a report shows that it is kept.

    [policy]                    # about every server
    conforms = yes
    aeads = 15, 30
    certificate_days = 14

    [time.example.net]          # HOST or HOST:PORT: about this server, in addition or instead
    certificate_names = time.example.net, time2.example.net

A promise about what the report does not tell is neither kept nor broken.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nts.base.errors import ConfigError
from nts.base.text import whole_number
from nts.check.findings import listed
from nts.check.saved.changes import REACHED, grade_rank
from nts.check.saved.reading import Report, conforms, letter, member, number, text
from nts.system import inifile

EVERYBODY = "policy"
Seen = tuple[bool | None, str]
"""whether a promise is kept (None: unknown), and what was seen"""


@dataclass(frozen=True)
class Promise:
    """One promise, held against a report."""

    option: str
    promised: str
    kept: bool | None
    seen: str

    @property
    def json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        verdict = {True: "PASS", False: "FAIL", None: "SKIP"}[self.kept]
        return f"{verdict} {self.option} = {self.promised}: {self.seen}"


def words(value: str) -> list[str]:
    """The words of a list with commas."""
    return value.replace(",", " ").split()


# --- what the options mean -------------------------------------------------------------------------------------------


def _yes_no(value: str) -> bool:
    if value.lower() not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return value.lower() == "yes"


def _whole(value: str) -> int:
    found = whole_number(value, 0, 99999)
    if found is None:
        raise ValueError("must be a number")
    return found


def _seconds(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = -1
    if not 0 <= found < 1e9:
        raise ValueError("must be a number of seconds")
    return found


def _numbers(value: str) -> list[int]:
    return [_whole(word) for word in words(value)]


def _grade(value: str) -> str:
    if not value[:1].isupper() or value[1:] not in ("", "+", "-"):
        raise ValueError("must be a grade, such as A or A+")
    return value


def _unknown(what: str) -> Seen:
    return None, f"the report does not tell {what}"


def _conforms(report: Report, wanted: bool) -> Seen:
    found = conforms(report)
    return (None, "nobody can say") if found is None else (found == wanted, "it does" if found else "it does not")


def _at_least_grade(report: Report, wanted: str) -> Seen:
    found = letter(report)
    return _unknown("a grade") if found is None else (grade_rank(found) <= grade_rank(wanted), found)


def _passes(report: Report, wanted: list[str]) -> Seen:
    verdicts = {r["name"]: r["verdict"] for r in report.get("results", ())}
    of = {pattern: [name for name in verdicts if fnmatchcase(name, pattern)] for pattern in wanted}
    missing = [f"{pattern} was not run" for pattern, names in of.items() if not names]
    names = list(dict.fromkeys(name for found in of.values() for name in found))
    others = [f"{name}: {verdicts[name]}" for name in names if verdicts[name] != "PASS"]
    if any(verdicts[name] in ("FAIL", "WARN") for name in names):
        return False, listed(others)
    return (None, listed([*others, *missing])) if others or missing else (True, f"{len(names)} PASS")


def _all_of(path: str, what: str) -> Callable[[Report, Any], Seen]:
    def judge(report: Report, wanted: list[Any]) -> Seen:
        found = member(report, path, lambda value: isinstance(value, list))
        return _unknown(what) if found is None else (set(wanted) <= set(map(_folded, found)), listed(found))

    return judge


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value if isinstance(value, int) else str(value)


def _one_of(path: str, what: str) -> Callable[[Report, Any], Seen]:
    def judge(report: Report, wanted: list[str]) -> Seen:
        found = text(report, path)
        return _unknown(what) if found is None else (found.lower() in map(str.lower, wanted), found)

    return judge


def _compared(path: str, what: str, ok: Callable[[float, Any], bool]) -> Callable[[Report, Any], Seen]:
    def judge(report: Report, wanted: float) -> Seen:
        found = number(report, path)
        return _unknown(what) if found is None else (ok(found, wanted), f"{found:g}")

    return judge


def _flag(path: str, what: str) -> Callable[[Report, Any], Seen]:
    def judge(report: Report, wanted: bool) -> Seen:
        found = member(report, path, lambda value: isinstance(value, bool))
        return _unknown(what) if found is None else (found == wanted, "yes" if found else "no")

    return judge


def _at_most(found: float, wanted: float) -> bool:
    return abs(found) <= wanted


def _at_least(found: float, wanted: float) -> bool:
    return found >= wanted


Kind = tuple[Callable[[str], Any], Callable[[Report, Any], Seen]]
"""how to read the value of an option, and how to judge a report by it"""

OPTIONS: dict[str, Kind] = {
    "conforms": (_yes_no, _conforms),
    "grade": (_grade, _at_least_grade),
    "passes": (words, _passes),
    "aeads": (_numbers, _all_of("facts.nts.aeads", "the AEAD algorithms")),
    "cookies": (_whole, _compared("facts.nts.cookies", "the number of cookies", _at_least)),
    "groups": (words, _one_of("facts.ke.group", "the TLS group")),
    "post_quantum": (_yes_no, _flag("facts.ke.post_quantum", "whether the TLS group is post-quantum")),
    "certificate_days": (_whole, _compared("facts.certificate.days_left", "when the certificate expires", _at_least)),
    "certificate_names": (
        lambda value: words(value.lower()), _all_of("facts.certificate.names", "the certificate's names"),
    ),
    "stratum": (_whole, _compared("facts.ntp.stratum", "the stratum", _at_most)),
    "root_distance": (_seconds, _compared("facts.ntp.root_distance_s", "the root distance", _at_most)),
    "offset": (_seconds, _compared("facts.ntp.offset_s", "the offset", _at_most)),
    "plain_ntp": (_yes_no, _flag("facts.ntp.plain.4", "whether it answers NTPv4 without NTS")),
}  # fmt: skip


# --- files and reports -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """The promises of a file, by section."""

    sections: dict[str, dict[str, str]]

    def hold(self, report: Report) -> tuple[Promise, ...]:
        """Each promise about the server of this report, and whether the report shows it kept.

        Of one that was not reached, only that.
        """
        target = report["target"]
        host = target.rpartition(":")[0].strip("[]")
        own = {**self._of(EVERYBODY), **self._of(host), **self._of(target)}
        if own and (failure := text(report, "failure.message")):
            return (Promise(REACHED, "yes", False, failure),)
        return tuple(Promise(o, value, *_judged(report, o, value)) for o, value in own.items())

    def _of(self, section: str) -> dict[str, str]:
        return self.sections.get(section.lower(), {})


def _judged(report: Report, option: str, value: str) -> Seen:
    read, judge = OPTIONS[option]
    return judge(report, read(value))


def load(path: Path) -> Policy:
    """The policy in an INI file. ConfigError names the section and option of a mistake."""
    parser = inifile.parse(inifile.read_text(path), path)
    for section in parser.sections():
        for option, value in parser[section].items():
            _check(path, section, option, value)
    sections = {s.lower(): dict(parser[s]) for s in parser.sections() if parser[s]}
    if not sections:
        raise ConfigError(f"{path} promises nothing", hint=f"[{EVERYBODY}] may have: {', '.join(OPTIONS)}")
    return Policy(sections)


def _check(path: Path, section: str, option: str, value: str) -> None:
    if option not in OPTIONS:
        close = difflib.get_close_matches(option, OPTIONS, 1) or [", ".join(OPTIONS)]
        raise ConfigError(f"{path}: [{section}] has the unknown option {option}", hint=f"did you mean {close[0]}?")
    try:
        if not value:
            raise ValueError("must not be empty")
        OPTIONS[option][0](value)
    except ValueError as e:
        raise ConfigError(f"{path}: [{section}] {option} {e}", hint="docs/nts_check.md lists the options") from None
