# SPDX-License-Identifier: MIT
"""`server_helper.py rotate`: adds, stages or activates a master key, and says which keys that costs before they go."""

from __future__ import annotations

import os

from nts.server import keystore
from nts.server.config import ServerConfig
from nts.server.keystore import KeyFile
from nts.system import console, privileges


def rotate(config: ServerConfig, how: str, *, dry_run: bool) -> None:
    """`how`: add (and use the new key), stage, or activate. ConfigError when it cannot be done."""
    folder, max_keys = config.keys.master_keys_dir, config.keys.max_keys
    is_new, snapshot = not folder.exists(), keystore.load(folder)
    for problem in snapshot.problems:
        console.warn(problem)
    if dry_run:
        print(f"would {_plan(how, snapshot)} in {folder}")
        if how != "stage" and (surplus := snapshot.surplus(max_keys)):
            print(f"would remove {_described(surplus)}")
        return
    if how == "stage":
        new = keystore.stage(folder, os.urandom)
        print(f"staged master key {new.key.id:04x} in {folder}: servers accept its cookies and make none with it")
    elif how == "activate":
        new, removed = keystore.activate(folder, max_keys, _announce)
        print(f"master key {new.key.id:04x} in {folder} is current now{_removal(removed)}")
    else:
        new, removed = keystore.rotate(folder, max_keys, os.urandom, _announce)
        print(f"new master key {new.key.id:04x} in {folder}{_removal(removed)}")
    if is_new:
        privileges.give(config.server.user, folder, *folder.iterdir())


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
