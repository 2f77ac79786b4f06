# SPDX-License-Identifier: MIT
"""The two clients: client.ini, one key exchange, one time query."""
