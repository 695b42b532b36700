"""Named random streams: pinned values, independence, permutations."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accord.rng import derive, generator, permutation

names = st.lists(st.one_of(st.text(max_size=8), st.integers(-5, 10**6)), max_size=4)


def test_streams_are_pinned() -> None:
    # First eight bytes of sha256("0"), sha256("7\x1fstr:ppo\x1fstr:sampling\x1fint:3"), shifted right by
    # one bit.
    assert derive(0) == 3456079177858693020
    assert derive(7, "ppo", "sampling", 3) == 5977945750724095358
    assert permutation(8, 0, "order") == [4, 6, 5, 0, 2, 7, 1, 3]
    assert generator(1, "noise").integers(0, 1000, 4).tolist() == [584, 874, 103, 798]


def test_streams_do_not_depend_on_the_process() -> None:
    code = "from accord.rng import derive; print(derive(3, 'a', 1))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{derive(3, 'a', 1)}\n"}


@given(st.integers(0, 2**63 - 1), names)
def test_seeds_fit_every_generator(seed: int, path: list[str | int]) -> None:
    assert 0 <= derive(seed, *path) < 2**63


@given(st.integers(0, 100), names, st.integers(0, 100), names)
def test_different_paths_give_different_streams(seed, path, other_seed, other_path) -> None:
    same = (seed, path) == (other_seed, other_path)
    separator = any("\x1f" in str(part) for part in path + other_path)
    assert separator or same == (derive(seed, *path) == derive(other_seed, *other_path))


def test_text_and_number_and_order_and_nesting_are_told_apart() -> None:
    streams = [
        (0, "1"),
        (0, 1),
        (1, 0),
        (0, "a", "b"),
        (0, "b", "a"),
        (0, "ab"),
        (0, "a", "", "b"),
        (0, "a"),
        (0,),
    ]
    assert len({derive(*stream) for stream in streams}) == len(streams)


def test_neighbouring_streams_are_uncorrelated() -> None:
    draws = np.stack([generator(0, "step", step).standard_normal(4000) for step in range(8)])
    correlation = np.corrcoef(draws) - np.eye(8)
    assert np.abs(correlation).max() < 0.08  # five standard errors of 1/sqrt(4000)


def test_a_stream_starts_afresh_each_time() -> None:
    assert generator(5, "x").random(3).tolist() == generator(5, "x").random(3).tolist()


@given(st.integers(0, 50), st.integers(0, 1000))
def test_permutations_hold_each_index_once(size: int, seed: int) -> None:
    assert sorted(permutation(size, seed, "p")) == list(range(size))
    assert all(type(index) is int for index in permutation(size, seed, "p"))


def test_permutations_differ_between_epochs() -> None:
    assert len({tuple(permutation(6, 0, "epoch", epoch)) for epoch in range(20)}) > 15
