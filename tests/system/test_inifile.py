# SPDX-License-Identifier: MIT
"""INI files: errors name file and line and never a value; edits keep everything that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nts.base.errors import ConfigError
from nts.system import inifile

PATH = Path("some.ini")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\nb = 1\n[a]\n", "line 3: section [a] stands twice"),
        ("[a]\nb = 1\nb = 2\n", "line 3: option b stands twice in [a]"),
        ("b = topsecret\n", "line 1: neither"),
        ("[a]\nb = 1\ntopsecret\n", "line 3: neither"),
        ("[a\nb = topsecret\n", "line 1: neither"),
    ],
)
def test_a_damaged_file_is_located_without_showing_its_contents(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        inifile.parse(text, PATH)
    assert f"some.ini, {complaint}" in str(caught.value)
    assert "topsecret" not in str(caught.value)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        inifile.read_text(tmp_path / "none.ini")
    with pytest.raises(ConfigError, match="Is a directory"):
        inifile.read_text(tmp_path)
    (tmp_path / "latin.ini").write_bytes(b"[a]\nb = \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        inifile.read_text(tmp_path / "latin.ini")


def test_percent_signs_and_default_sections_are_nothing_special() -> None:
    parser = inifile.parse("[DEFAULT]\nx = 1\n[a]\nb = 100%\n", PATH)
    assert parser["a"]["b"] == "100%"
    assert parser.sections() == ["DEFAULT", "a"]
    assert "x" not in parser["a"]


BEFORE = """\
# mine
[other]
keep = this

[cookies]
; a note
0 = aa
1 = bb
    cc
2: dd
[keys]
C2S = old
"""


def test_set_options_replaces_removes_and_adds() -> None:
    after = inifile.set_options(BEFORE, "cookies", {"0": "new", "1": None, "2": None, "3": "three"})
    after = inifile.set_options(after, "keys", {"c2s": "x", "s2c": "y"})
    after = inifile.set_options(after, "ntske", {"host": "h", "ca": None})
    assert (
        after
        == """\
# mine
[other]
keep = this

[cookies]
; a note
0 = new
3 = three
[keys]
c2s = x
s2c = y

[ntske]
host = h
"""
    )


def test_removing_from_a_section_that_is_not_there_changes_nothing() -> None:
    assert inifile.set_options("[a]\nb = 1\n", "c", {"d": None}) == "[a]\nb = 1\n"


NAMES = st.text("abcdef", min_size=1, max_size=4)
VALUES = st.text("0123456789 xyz%", max_size=8).map(str.strip)
FILES = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=4)


@given(FILES, NAMES, st.dictionaries(NAMES, st.none() | VALUES, max_size=4))
def test_set_options_touches_nothing_else(
    sections: dict[str, dict[str, str]], section: str, options: dict[str, str | None]
) -> None:
    text = ""
    for name, contents in sections.items():
        text += f"[{name}]\n# note on {name}\n" + "".join(f"{k} = {v}\n" for k, v in contents.items())
    parsed = inifile.parse(inifile.set_options(text, section, options), PATH)
    expected = {s: dict(o) for s, o in sections.items()}
    target = expected.setdefault(section, {})
    for name, value in options.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value
    if not target and section not in sections:
        del expected[section]
    assert {s: dict(parsed[s]) for s in parsed.sections()} == expected
    for s in sections:
        assert f"# note on {s}" in inifile.set_options(text, section, options)
