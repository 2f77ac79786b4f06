# SPDX-License-Identifier: MIT
"""What the operating system does for both sides: files, sockets, the clock, TLS, stderr."""
