# SPDX-License-Identifier: MIT
"""The command line: arguments, exit codes, and how results look on a terminal and as JSON."""
