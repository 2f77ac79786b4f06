# SPDX-License-Identifier: MIT
"""INI files, read by configparser. Errors are one line and show no values, which may be secret."""

from __future__ import annotations

import configparser
from pathlib import Path

from nts.base.errors import ConfigError


def read_text(path: Path) -> str:
    """The text of a file. ConfigError when it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from None


class _ExactParser(configparser.ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


def parse(text: str, path: Path, *, exact: bool = False) -> configparser.ConfigParser:
    """The sections and options of `text`. ConfigError names the file and the line, never the value.

    Names of options are in lower case afterwards, unless `exact`.
    """
    kind = _ExactParser if exact else configparser.ConfigParser
    parser = kind(interpolation=None, default_section="", empty_lines_in_values=False)
    try:
        parser.read_string(text)
    except configparser.DuplicateSectionError as e:
        raise ConfigError(f"{path}, line {e.lineno}: section [{e.section}] is repeated") from None
    except configparser.DuplicateOptionError as e:
        raise ConfigError(f"{path}, line {e.lineno}: option {e.option} is repeated in [{e.section}]") from None
    except configparser.ParsingError as e:
        line = e.lineno if isinstance(e, configparser.MissingSectionHeaderError) else e.errors[0][0]
        raise ConfigError(f"{path}, line {line}: not a [section], an option = value, or a comment") from None
    return parser
