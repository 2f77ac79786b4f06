# SPDX-License-Identifier: MIT
"""The two servers: configuration, master keys, worker processes, the event loops."""
