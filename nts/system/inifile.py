# SPDX-License-Identifier: MIT
"""INI files: reading with errors of one line that show no value, and editing that keeps what is not ours.

`configparser` reads. It cannot write a file without losing the comments, so `set_options` edits the text itself.
"""

from __future__ import annotations

import configparser
from pathlib import Path

from nts.base.errors import ConfigError
from nts.base.registry import AeadId

_SECTION = configparser.ConfigParser.SECTCRE
_OPTION = configparser.ConfigParser.OPTCRE


def read_text(path: Path) -> str:
    """The file as text. ConfigError when it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
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


def aeads(text: str) -> tuple[AeadId, ...]:
    """AEAD algorithms by number, separated by commas or spaces. ValueError says what is accepted."""
    known = {str(int(a)): a for a in AeadId}
    items = text.replace(",", " ").split()
    if not items or not set(items) <= set(known) or len(set(items)) < len(items):
        raise ValueError(f"some of {', '.join(known)} are needed, each once")
    return tuple(known[i] for i in items)


def set_options(text: str, section: str, options: dict[str, str | None]) -> str:
    """`text` with these options of a section set, or removed where the value is None; all else stays as it is.

    Lines mean what they mean to configparser: a line indented more than the option above it continues its value,
    unless an empty line or a comment stands between them.
    """
    out: list[str] = []
    todo = dict(options)
    inside = found = False
    insert_at = indent = 0
    owner: str | None = None  # the option that an indented line would continue
    for line in text.removesuffix("\n").split("\n") if text else []:
        content = line.strip()
        margin = len(line) - len(line.lstrip())
        if not content or content[0] in "#;":
            owner = None
        elif owner is not None and margin > indent:
            if inside and owner in options:
                continue
        else:
            indent = margin
            if header := _SECTION.match(content):
                inside, owner = header["header"] == section, None
                found = found or inside
            elif option := _OPTION.match(content):
                owner = option["option"].rstrip().lower()
                if inside and owner in options:
                    value = todo.pop(owner, None)
                    if value is None:
                        continue
                    line = f"{line[:margin]}{owner} = {value}"
        out.append(line)
        if inside and content:
            insert_at = len(out)
    new = [f"{name} = {value}" for name, value in todo.items() if value is not None]
    if found and new:
        # Behind the section's last line; empty lines keep indented neighbours from being taken for values of ours.
        before = [""] if out[insert_at - 1][:1].isspace() else []
        after = [""] if insert_at < len(out) and out[insert_at][:1].isspace() else []
        out[insert_at:insert_at] = [*before, *new, *after]
    elif new:
        out += [*([""] if out else []), f"[{section}]", *new]
    return "\n".join(out) + "\n"
