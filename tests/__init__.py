# SPDX-License-Identifier: MIT
"""The tests in Python. A folder tests the room of nts/ that has its name; interop/ talks to other people's programs.

The files beside the folders test the tree itself: documents, imports, fuzzers, benchmarks. What tests share is in
testkit/. docs/rfc8915.md says what A41, B07, C12 and "check 22" in docstrings mean.
"""
