# SPDX-License-Identifier: MIT
"""How long a server accepts its cookies, seen from outside, with the fewest packets.

Cookies die with the master key that sealed them, the oldest first. So one question per interval is enough: is the
oldest cookie still accepted? Each reply brings a new cookie, which keeps a stock of all ages. When the oldest is
refused, a bisection of the stock finds the oldest that is not: in between, the server began to use its next key. That
tells how long the last cookies of a key live. The next death tells how often keys change, and then all is known.
"""
