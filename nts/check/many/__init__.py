# SPDX-License-Identifier: MIT
"""Many servers in one run: the file that names them, the JSON Lines that it makes, the threads that ask."""
