# SPDX-License-Identifier: MIT
"""The fuzz targets over their whole corpus and some mutations of it; and that a broken invariant would be noticed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from fuzz import run
from fuzz.seeds import seeds
from fuzz.targets import TARGETS

MUTATIONS = 400
SEEDS = seeds()
INPUTS = {f"{target}/{name}": (target, data) for target, inputs in SEEDS.items() for name, data in inputs.items()}


@pytest.mark.parametrize(("target", "data"), list(INPUTS.values()), ids=list(INPUTS))
def test_the_invariant_holds_for_the_seed(target: str, data: bytes) -> None:
    TARGETS[target](data)
    assert run.corpus(target)[next(n for n, d in SEEDS[target].items() if d == data)] == data


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_invariant_holds_for_mutations(target: str) -> None:
    tried = 0
    for data in islice(run.mutations(list(run.corpus(target).values()), seed=1), MUTATIONS):
        try:
            TARGETS[target](data)
        except Exception as e:
            pytest.fail(f"{target} is broken by {data.hex()}: {e!r}")
        tried += 1
    assert tried == MUTATIONS


def test_the_committed_corpus_is_what_seeds_makes() -> None:
    assert {target: run.corpus(target) for target in TARGETS} == SEEDS


@pytest.mark.parametrize("seconds", [0.3])
def test_the_plain_mutator_saves_and_shows_what_breaks_a_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: float
) -> None:
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "BUILD", tmp_path / "build")

    def fragile(data: bytes) -> None:
        assert len(data) % 7

    assert not run.run_plain("ke_request", fragile, seconds)
    (saved,) = (tmp_path / "build").iterdir()
    assert len(saved.read_bytes()) % 7 == 0
    assert saved.read_bytes().hex() in capsys.readouterr().out


def test_the_plain_mutator_counts_its_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run_plain("extension_fields", TARGETS["extension_fields"], 0.2)
    assert capsys.readouterr().out.startswith("extension_fields: ")


def test_an_unknown_target_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run.main(["no_such_target"])
    assert caught.value.code == 2
    assert "no such target: no_such_target" in capsys.readouterr().err
