# SPDX-License-Identifier: MIT
"""The clock filter of RFC 5905 section 10."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nts.codec.ntp import NS
from nts.protocol.clock_filter import STAGES, ClockFilter, Filtered, Sample

MS = 1_000_000
spans = st.integers(0, 16 * NS)
samples = st.builds(
    Sample, offset=st.integers(-NS, NS), delay=spans, error=spans, at=st.integers(0, 1000 * NS)
)  # fmt: skip
series = st.lists(samples, min_size=1, max_size=20).map(lambda made: sorted(made, key=lambda s: s.at))


def result(*made: Sample, now: int | None = None) -> Filtered:
    clock_filter = ClockFilter()
    for sample in made:
        clock_filter.add(sample)
    found = clock_filter.result(made[-1].at if now is None else now)
    assert found is not None
    return found


def test_the_sample_with_the_least_delay_counts() -> None:
    found = result(Sample(5, 30, 15, 0), Sample(1, 10, 5, 0), Sample(9, 20, 1, 0))
    assert (found.offset, found.delay, found.error, found.samples) == (1, 10, 5, 3)


def test_jitter_is_how_far_the_others_are_from_the_best_one() -> None:
    """The root of (3**2 + 4**2) / 2."""
    found = result(Sample(0, 1, 1, 0), Sample(3 * MS, 2, 1, 0), Sample(-4 * MS, 3, 1, 0))
    assert found.jitter == int((12.5 * MS * MS) ** 0.5)
    assert result(Sample(7, 1, 1, 0)).jitter == 0


def test_dispersion_weighs_each_error_half_as_much_as_the_one_before_and_empty_stages_with_16_seconds() -> None:
    assert result(*[Sample(0, 1, 256, 0)] * STAGES).dispersion == 128 + 64 + 32 + 16 + 8 + 4 + 2 + 1
    (best, worse), empty = (800, 400), sum(16 * NS >> rank for rank in range(3, 9))
    assert result(Sample(0, 2, worse, 0), Sample(0, 1, best, 0)).dispersion == 400 + 100 + empty


def test_the_error_grows_by_15_ppm() -> None:
    """By 15 us in a second, for the best sample is the old one."""
    assert result(Sample(0, 1, MS, 0), Sample(0, 2, MS, NS)).error == MS + 15_000


def test_the_ninth_sample_pushes_out_the_first() -> None:
    best, others = Sample(42, 1, 1, 0), [Sample(0, 9, 1, at) for at in range(1, STAGES)]
    assert result(best, *others).offset == 42
    assert result(best, *others, Sample(1, 8, 1, STAGES)).offset == 1


def test_without_samples_there_is_no_result() -> None:
    clock_filter = ClockFilter()
    assert clock_filter.result(0) is None
    clock_filter.add(Sample(0, 0, 0, 0))
    clock_filter.clear()
    assert clock_filter.result(0) is None


@given(series, st.integers(0, 1000 * NS))
def test_whatever_comes(made: list[Sample], later: int) -> None:
    """The best of the last eight, with an error that only grows."""
    now = made[-1].at
    found, kept = result(*made), made[-STAGES:]
    assert found.delay == min(s.delay for s in kept)
    assert any((s.offset, s.delay, s.error_at(now)) == (found.offset, found.delay, found.error) for s in kept)
    assert found.jitter <= max(abs(s.offset - found.offset) for s in kept) * 1.0001
    assert found.dispersion >= found.error // 2
    aged = result(*made, now=now + later)
    assert (aged.offset, aged.jitter) == (found.offset, found.jitter)
    assert aged.error - found.error in range(later * 15 // 1_000_000, later * 15 // 1_000_000 + 2)
