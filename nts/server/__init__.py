# SPDX-License-Identifier: MIT
"""The two servers: configuration, master keys, worker processes, event loops."""
