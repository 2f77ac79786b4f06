# SPDX-License-Identifier: MIT
"""What every page around reports is: one file without script, picture or font, that loads nothing."""

from __future__ import annotations

from string import Template

_FRAME = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="generator" content="$generator">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
$header
</header>
<main>
$main
</main>
<footer>
$footer
</footer>
</body>
</html>
""")


def page(*, generator: str, title: str, style: str, header: str, main: str, footer: str) -> str:
    """The page. All parts are HTML already, so what comes from a report is escaped; `style` is CSS and ends a line."""
    return _FRAME.substitute(
        generator=generator, title=title, style=style, header=header, main=main, footer=footer,
    )  # fmt: skip
