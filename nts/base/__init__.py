# SPDX-License-Identifier: MIT
"""Errors, registry numbers, octets and text: what every other room stands on. Imports nothing of the suite."""
