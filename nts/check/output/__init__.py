# SPDX-License-Identifier: MIT
"""Results for people and machines: a terminal, JSON, JUnit XML, one HTML page, and the documentation of the checks.

`render.Reporter` is what a command uses. It cleans what came from the peer once, for all of them.
"""
