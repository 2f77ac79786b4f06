# SPDX-License-Identifier: MIT
"""INI files: reading with errors of one line that show no value, and editing that keeps what is not ours.

`configparser` reads. It cannot write a file without losing the comments, so `set_options` edits the text itself.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from nts.errors import ConfigError

_SECTION = re.compile(r"\[(?P<name>[^]]+)\]")
_OPTION = re.compile(r"(?P<name>[^\s#;:=\[][^:=]*?)\s*[:=]")


def read_text(path: Path) -> str:
    """The file as text. ConfigError when it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from None


def parse(text: str, path: Path) -> configparser.ConfigParser:
    """The sections and options of `text`. ConfigError names the file and the line, never what stands in it."""
    parser = configparser.ConfigParser(interpolation=None, default_section="", empty_lines_in_values=False)
    try:
        parser.read_string(text)
    except configparser.DuplicateSectionError as e:
        raise ConfigError(f"{path}, line {e.lineno}: section [{e.section}] stands twice") from None
    except configparser.DuplicateOptionError as e:
        raise ConfigError(f"{path}, line {e.lineno}: option {e.option} stands twice in [{e.section}]") from None
    except configparser.ParsingError as e:
        line = e.lineno if isinstance(e, configparser.MissingSectionHeaderError) else e.errors[0][0]
        raise ConfigError(f"{path}, line {line}: neither a [section], an option = value, nor a comment") from None
    return parser


def set_options(text: str, section: str, options: dict[str, str | None]) -> str:
    """`text` with these options of a section set, or removed where the value is None; all else stays as it is."""
    lines, out, todo = text.splitlines(), [], dict(options)
    inside = found = dropping = False
    insert_at = 0
    for line in lines:
        if dropping and line[:1].isspace() and line.strip():
            continue  # a continuation line of a value that has gone
        dropping = False
        header = _SECTION.match(line)
        option = _OPTION.match(line)
        if header:
            inside = header["name"] == section
            found = found or inside
        elif inside and option and option["name"].lower() in options:
            name = option["name"].lower()
            value, dropping = todo.pop(name, None), True
            if value is None:
                continue
            line = f"{name} = {value}"
        out.append(line)
        if inside and line.strip():
            insert_at = len(out)
    new = [f"{name} = {value}" for name, value in todo.items() if value is not None]
    if found:
        out[insert_at:insert_at] = new
    elif new:
        out += [*([""] if out else []), f"[{section}]", *new]
    return "\n".join(out) + "\n"
