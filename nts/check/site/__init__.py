# SPDX-License-Identifier: MIT
"""A static site from many reports: servers sorted by grade, a page, a badge and a history for each.

The same reports make the same files. Pages hold their style and pictures, load nothing, and have no script.
"""
