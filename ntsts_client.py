#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time client (RFC 8915 section 5): requests the time with a cookie from client.ini and verifies the answer.

examples:
  ntsts_client.py                   query the server named by the key exchange
  ntsts_client.py localhost 4123    query this server, with the same keys and cookies
  ntsts_client.py -n 8 -i 2         send eight queries, two seconds apart
  ntsts_client.py --dump            show both packets, field by field
  ntsts_client.py --json            print a JSON object for each query
  ntsts_client.py -f a.ini -f b.ini -f c.ini         ask three servers, and say which one is wrong
  ntsts_client.py --monitor --metrics /run/nts.prom  go on until stopped
  ntsts_client.py --check --warn 50ms --crit 1s      a plugin for a monitoring system

exit codes: 0 ok, 2 usage or file, 10 name, 20 no answer, 21 NTS NAK, 22 not authentic, 23 not an answer to this
request, 24 no cookies left, 25 the server is not synchronised or refuses to serve us, 130 Ctrl-C, 1 anything else.
Of several queries, one answer makes a success; without one, the last failure counts. With --check: 0 OK, 1 WARNING,
2 CRITICAL, 3 UNKNOWN.
"""


def main() -> int:
    from nts.cli import time_client  # here, where `script.run` reports missing packages

    return time_client.main(__doc__)


if __name__ == "__main__":
    import signal

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `heed_ctrl_c`, it ends this without a word
    from nts.cli import script

    script.run(main)
