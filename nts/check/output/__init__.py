# SPDX-License-Identifier: MIT
"""Results for people and machines: a terminal, JSON, JUnit XML, an HTML page, and the documentation of the checks.

Commands use `render.Reporter`. It makes the peer's text harmless once, for all outputs.
"""
