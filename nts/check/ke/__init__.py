# SPDX-License-Identifier: MIT
"""NTS-KE as a checker speaks it: forge a request, probe the server with it, judge its answer. `ntp` is its twin."""
