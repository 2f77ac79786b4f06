# SPDX-License-Identifier: MIT
"""Master keys for many hosts: the plan that they share, where it is kept, and the agent that carries it out.

`plan`, `steps` and `envelope` are pure: state in, next state out. tests/fleet/test_model.py tries every order of events
on them. docs/fleet.md explains the protocol.
"""
