# SPDX-License-Identifier: MIT
"""INI files: errors name file and line and never a value; edits keep everything that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from nts.base.errors import ConfigError
from nts.system import inifile

PATH = Path("some.ini")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\nb = 1\n[a]\n", "line 3: section [a] is repeated"),
        ("[a]\nb = 1\nb = 2\n", "line 3: option b is repeated in [a]"),
        ("b = topsecret\n", "line 1: not a [section]"),
        ("[a]\nb = 1\ntopsecret\n", "line 3: not a [section]"),
        ("[a\nb = topsecret\n", "line 1: not a [section]"),
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
