# SPDX-License-Identifier: MIT
"""The rules of RFC 8915 as pure functions: octets in, octets and a verdict out. No socket, clock, file or thread."""
