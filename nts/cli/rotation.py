# SPDX-License-Identifier: MIT
"""`server_helper.py rotate`: adds, stages or activates a master key, and says which keys that costs before they go.

If another server shares the keys (`[keys] export`), it gets each key before we seal with it: to add one is to stage it,
to have that server read its file, and to activate it.
"""

from __future__ import annotations

import os
import shlex

from nts.server import keystore, peer_file
from nts.server.config import ForeignFile, KeysConfig, ServerConfig
from nts.server.keystore import KeyFile
from nts.system import console, privileges


def rotate(config: ServerConfig, how: str, *, dry_run: bool) -> None:
    """`how`: add (and use the new key), stage, or activate. ConfigError when it cannot be done."""
    folder, max_keys = config.keys.master_keys_dir, config.keys.max_keys
    is_new, snapshot = not folder.exists(), keystore.load(folder)
    for problem in snapshot.problems:
        console.warn(problem)
    peer = config.keys.exported
    if dry_run:
        print(f"would {_plan(how, snapshot)} in {folder}")
        if peer is not None:
            print(f"would write {peer.path}{_and_run(config.keys)}")
        if how != "stage" and (surplus := snapshot.surplus(max_keys)):
            print(f"would remove {_described(surplus)}")
        return
    try:
        _rotate(config.keys, how)
    finally:
        if is_new and folder.exists():
            privileges.give(config.server.user, folder, *folder.iterdir())


def _rotate(keys: KeysConfig, how: str) -> None:
    folder, peer, shared_add = keys.master_keys_dir, keys.exported, keys.exported is not None and how == "add"
    if how == "stage" or (shared_add and not keystore.load(folder).staged):
        new = keystore.stage(folder, os.urandom, peer_file.next_place(peer) if peer else None)
        print(f"staged master key {new.key.id:04x} in {folder}: servers accept its cookies and make none with it")
    if peer is not None:
        _publish(keys, peer)
    if how == "activate" or shared_add:
        new, removed = keystore.activate(folder, keys.max_keys, _announce)
        print(f"master key {new.key.id:04x} in {folder} is current now{_removal(removed)}")
        if peer is not None:
            _publish(keys, peer)
    elif how == "add":
        new, removed = keystore.rotate(folder, keys.max_keys, os.urandom, _announce)
        print(f"new master key {new.key.id:04x} in {folder}{_removal(removed)}")


def _publish(keys: KeysConfig, peer: ForeignFile) -> None:
    """Write the other server's key file, and have that server read it. ConfigError when that fails."""
    ring = keystore.load(keys.master_keys_dir).ring
    if ring.current is None:  # the first key is staged: nothing is sealed yet
        return
    peer_file.write(peer, ring, os.urandom)
    if keys.export_command:
        peer_file.tell(keys.export_command, "export_command")
    print(f"wrote {peer.path}{_and_run(keys)}")


def _and_run(keys: KeysConfig) -> str:
    return f" and run {shlex.join(keys.export_command)}" if keys.export_command else ""


def _plan(how: str, snapshot: keystore.Snapshot) -> str:
    """What would be done. ConfigError when it could not."""
    if how == "stage":
        snapshot.may_stage()
        return "stage a master key"
    if how == "activate":
        return f"make the staged master key {snapshot.to_activate().key.id:04x} current"
    return "add a master key"


def _announce(surplus: tuple[KeyFile, ...]) -> None:
    console.say(f"removes {_described(surplus)}")


def _described(surplus: tuple[KeyFile, ...]) -> str:
    names = ", ".join(f"{file.key.id:04x}" for file in surplus)
    return f"{names}, the oldest: {'its' if len(surplus) == 1 else 'their'} cookies become invalid"


def _removal(removed: tuple[int, ...]) -> str:
    return f", removed {', '.join(f'{i:04x}' for i in removed)}" if removed else ""
