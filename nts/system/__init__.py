# SPDX-License-Identifier: MIT
"""What servers and clients need of the operating system: files, sockets, the clock, TLS, stderr."""
