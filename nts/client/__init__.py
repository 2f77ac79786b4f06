# SPDX-License-Identifier: MIT
"""The two clients: client.ini, the key exchange, the time query."""
