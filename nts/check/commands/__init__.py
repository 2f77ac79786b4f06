# SPDX-License-Identifier: MIT
"""The subcommands of nts_check.py: each module has `add`, which declares its arguments, and `run`."""
