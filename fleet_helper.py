#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Helper for operators of several servers: shares their master keys, and rotates them so that no client notices.

examples:
  fleet_helper.py init                     make a fleet with the keys of this host, which joins it
  fleet_helper.py join                     make this host a member, before its servers start
  fleet_helper.py agent                    keep this host's keys as the fleet says: the service of every member
  fleet_helper.py status                   show keys and members, and what a rotation waits for (--json for machines)
  fleet_helper.py rotate                   make a new key, and wait until all members seal with it
  fleet_helper.py rotate --every 24h       make one every day: a service, on one host or on several
  fleet_helper.py revoke 1a2b              remove a key at once, which clients notice
  fleet_helper.py rewrap --stage           make a new wrapping key, for: fleet_helper.py rewrap
  fleet_helper.py leave                    make this host no member any more
  fleet_helper.py -c other.ini status      use another configuration than fleet.ini

docs/fleet.md explains it. Exit codes are those of server_helper.py: 0 ok, 1 not now, 2 usage or file, 11 out of reach.
"""

from __future__ import annotations

from nts.cli import fleet_arguments, script


def main() -> int:
    args = fleet_arguments.parse(__doc__)
    from nts.cli import fleet_commands

    return fleet_commands.run(args)


if __name__ == "__main__":
    script.run(main)
