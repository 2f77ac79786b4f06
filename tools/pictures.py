# SPDX-License-Identifier: MIT
"""Draws README's pictures of a terminal, docs/demo.svg and docs/check.svg: `python -m tools.pictures`.

What they show is what the programs print, run in a fresh copy of the checkout on the ports of the shipped server.ini. A
picture stands alone: no font from the net, no script. Another run changes only times, key identifiers and what the
machine has (workers, AES, the clock's precision).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
HOME = "/home/you/nts"
"""where the pictures have the checkout, wherever it is"""
COLUMNS = 100
SIZE, ADVANCE, LEADING, MARGIN = 14, 8.4, 18, 16  # of a character, from one to the next, of a line, around; pixels
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

DEMO = "./bootstrap demo"
FAULT = "clear-cookies"
"""of the server in the other picture, from `nts_check.py misbehave --list`"""
CHECK = """\
python3 nts_check.py server --fast --seed 1 -c certs/ca.pem localhost 4446 \\
    --only 'tls13*,cert*,ke-basic,ke-c*,ntp-basic'"""
CHECK_COLUMNS = 96  # from 100 on the program makes more columns, which leaves less room for each


# --- drawing ----------------------------------------------------------------------------------------------------------


def svg(about: str, command: str, *output: RenderableType) -> str:
    """A terminal after this command. Each of its lines is a line of the file, which keeps diffs small."""
    screen = Console(width=COLUMNS, force_terminal=True, color_system="truecolor", legacy_windows=False)
    prompt = Text.assemble(("$ ", "bold green"), (command, "bold"))
    lines = screen.render_lines(Group(prompt, Text(""), *output), pad=False)
    width, height = COLUMNS * ADVANCE + 2 * MARGIN, len(lines) * LEADING + 2 * MARGIN
    drawn: list[str] = []
    for number, line in enumerate(lines):
        column, pieces = 0, list[str]()
        for segment in line:
            pieces += _texts(segment.text, column, number, segment.style or Style.null())
            column += segment.cell_length
        drawn.append("".join(pieces))
    body = "\n".join(filter(None, drawn))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">
<!-- made by python -m tools.pictures -->
<title>{escape(about)}</title>
<rect width="100%" height="100%" rx="8" fill="{THEME.background_color.hex}"/>
<g font-family="{FONTS}" font-size="{SIZE}" fill="{THEME.foreground_color.hex}">
{body}
</g>
</svg>
"""


def _texts(text: str, column: int, line: int, style: Style) -> Iterator[str]:
    """An element for each run of words, at its column and as wide as on a terminal, whatever the font."""
    looks = ' font-weight="bold"' if style.bold else ""
    looks += ' opacity="0.6"' if style.dim else ""
    if style.color is not None and not style.color.is_default:
        looks += f' fill="{style.color.get_truecolor(THEME).hex}"'
    y = MARGIN + LEADING * (line + 0.75)
    for piece in re.finditer(r"\S+( \S+)*", text):
        x, width = MARGIN + ADVANCE * (column + piece.start()), ADVANCE * len(piece[0])
        yield f'<text x="{x:g}" y="{y:g}" textLength="{width:g}"{looks}>{escape(piece[0], quote=False)}</text>'


def demo_lines(output: str) -> Iterator[RenderableType]:
    """What the demo prints: titles bold, warnings yellow; a line that wraps keeps its indent."""
    for line in output.splitlines():
        text = line.strip()
        style = "bold" if line.startswith("* ") else "yellow" if text.startswith("warning:") else ""
        yield Padding(Text(text, style), (0, 0, 0, len(line) - len(line.lstrip())))


def arguments(command: str) -> list[str]:
    """The words of a command; python3, which may be another one here, is left out."""
    words = shlex.split(command.replace("\\\n", ""))
    return words[words[0] == "python3" :]


# --- running ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def checkout() -> Iterator[Path]:
    """A copy of what the programs need, with neither certificate nor keys."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "nts"
        (root / "tools").mkdir(parents=True)
        for path in (*ROOT.glob("*.py"), ROOT / "server.ini", ROOT / "tools/demo.py"):
            shutil.copy(path, root / path.relative_to(ROOT))
        shutil.copytree(ROOT / "nts", root / "nts", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "libaes_siv").symlink_to(ROOT / "libaes_siv")
        yield root


def run(root: Path, command: list[str], expected: int) -> str:
    """What the program prints on a terminal of that width; it must end as expected."""
    terminal = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "TERM": "xterm-256color", "COLUMNS": str(CHECK_COLUMNS)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env={**os.environ, **terminal},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != expected or done.stderr:
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.replace(str(root), HOME)


def demo() -> str:
    """The demo's picture."""
    with checkout() as root:
        output = run(root, ["tools/demo.py"], 0)
    return svg("The demo: from the first start of the servers to a time query", DEMO, *demo_lines(output.lstrip("\n")))


def check() -> str:
    """The picture of a report: on a server with one fault."""
    with checkout() as root:
        server = [sys.executable, "nts_check.py", "misbehave", FAULT, "--ke-port", "4446", "--ntp-port", "4123"]
        with subprocess.Popen(server, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ca = next((m[1] for m in map(re.compile(r", CA (.+)").search, process.stdout) if m), None)
                if ca is None:
                    raise SystemExit("nts_check.py misbehave did not start")
                (root / "certs").mkdir()
                shutil.copy(ca, root / "certs/ca.pem")
                output = run(root, arguments(CHECK), 1)
            finally:
                process.terminate()
    # The progress bar hides the cursor, shows it again, and leaves an empty line.
    text = output.replace("\x1b[?25l", "").replace("\x1b[?25h\n", "").rstrip("\n")
    return svg(f"A report of nts_check.py: the server has the fault {FAULT}", CHECK, Text.from_ansi(text))


if __name__ == "__main__":
    for name, draw in (("demo", demo), ("check", check)):
        (DOCS / f"{name}.svg").write_text(draw(), encoding="utf-8")
