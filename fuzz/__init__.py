# SPDX-License-Identifier: MIT
"""Fuzzing of every parser: `targets` says what must hold, `run` tries to break it, `seeds` makes the corpus."""
