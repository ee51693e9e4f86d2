import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.splits import SPLITS, draw, folds, split_of

PATIENTS = st.lists(st.text("abc0", min_size=1, max_size=3), min_size=2, max_size=60)


def test_split_shares_are_70_10_20() -> None:
    splits = np.array([split_of(f"patient {i}", seed=3) for i in range(20_000)])
    shares = [(splits == name).mean() for name in SPLITS]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.01)


def test_split_does_not_change_between_versions() -> None:
    assert [split_of(patient, seed=0) for patient in ("ann", "bob", "eve", "")] == [
        "train",
        "validation",
        "test",
        "validation",
    ]
    assert len({tuple(split_of(f"{i}", seed) for i in range(40)) for seed in range(5)}) == 5


@given(PATIENTS, st.integers(2, 6), st.integers(1, 3), st.integers(0, 9))
def test_folds_hold_every_row_once_and_no_patient_twice(patients: list[str], k: int, repeats: int, seed: int) -> None:
    if len(set(patients)) < k:
        with pytest.raises(ValueError, match=f"k must be .*Got {k}"):
            folds(patients, k, repeats, seed)
        return
    parts = folds(patients, k, repeats, seed)
    assert len(parts) == repeats
    for fold in parts:
        assert sorted(np.concatenate(fold).tolist()) == list(range(len(patients)))
        names = [{patients[row] for row in rows} for rows in fold]
        assert sum(map(len, names)) == len(set(patients))
        assert max(map(len, names)) - min(map(len, names)) <= 1


def test_folds_are_by_hash_so_repeats_differ_and_runs_agree() -> None:
    patients = [f"p{i // 2}" for i in range(100)]
    first, again = folds(patients, 5, 2, seed=1), folds(patients, 5, 2, seed=1)
    for a, b in zip(itertools.chain(*first), itertools.chain(*again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(*first, strict=True))


@given(st.lists(st.booleans(), min_size=20, max_size=80), st.integers(2, 5))
def test_strata_are_dealt_out_evenly(positive: list[bool], k: int) -> None:
    patients = [f"p{i}" for i in range(len(positive))]
    counts = [sum(positive[row] for row in rows) for rows in folds(patients, k, 1, 0, strata=positive)[0]]
    assert max(counts) - min(counts) <= 1


@given(PATIENTS, st.floats(0.05, 1.0), st.integers(0, 5))
def test_a_share_of_the_patients_is_drawn_whole_and_the_same_again(patients: list[str], share: float, key: int) -> None:
    rows = draw(patients, share, str(key))
    drawn = {patients[row] for row in rows}
    assert sorted(rows.tolist()) == [row for row, patient in enumerate(patients) if patient in drawn]
    assert len(drawn) == max(1, int(np.floor(share * len(set(patients)) + 1e-9)))
    np.testing.assert_array_equal(rows, draw(patients, share, str(key)))


@given(st.lists(st.booleans(), min_size=20, max_size=80), st.floats(0.1, 1.0))
def test_a_share_has_its_part_of_every_stratum(positive: list[bool], share: float) -> None:
    rows = draw([f"p{i}" for i in range(len(positive))], share, "x", strata=positive)
    assert abs(sum(positive[row] for row in rows) - share * sum(positive)) <= 1 + 1e-6
