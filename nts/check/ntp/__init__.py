# SPDX-License-Identifier: MIT
"""NTP as a checker speaks it: forge a request, probe the server with it, judge its answer. `ke` is its twin."""
