# SPDX-License-Identifier: MIT
"""Errors, registry numbers, octets and text, for every other layer. Imports nothing else of the suite."""
