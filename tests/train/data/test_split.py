"""Splits: by seed, by lists, by groups, in folds; a group is never divided."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_nas.errors import InputError
from unet_nas.train.data.config import DataConfig, Split
from unet_nas.train.data.load import load_data
from unet_nas.train.data.raw import Item, RawCase
from unet_nas.train.data.split import groups_of, split_cases


def never_read() -> RawCase:
    raise AssertionError("a split reads no image")


def items(names):
    return [Item(name, name, never_read) for name in names]


def parts_of(names, tmp_path, *, seed=0, groups=None, **options):
    split = Split.model_validate(options)
    cases = items(names)
    found = split_cases(cases, groups or list(names), split, base=tmp_path, seed=seed)
    return dict(zip(names, found, strict=True))


NAMES = [f"p{number}_{side}" for number in range(10) for side in "lr"]


@given(
    groups=st.lists(st.integers(0, 9).map(str), min_size=3, max_size=40).filter(
        lambda g: len(set(g)) > 2
    ),
    validation=st.floats(0.01, 0.45),
    test=st.floats(0, 0.45),
    seed=st.integers(0, 5),
)
def test_no_group_is_in_two_parts_and_no_part_is_empty(groups, validation, test, seed):
    names = [f"case {index}" for index in range(len(groups))]
    split = Split(validation=validation, test=test)
    found = split_cases(items(names), groups, split, base=None, seed=seed)
    by_group = {}
    for group, part in zip(groups, found, strict=True):
        assert by_group.setdefault(group, part) == part
    wanted = {"train", "validation"} | ({"test"} if test else set())
    assert set(found) == wanted
    number = len(by_group)
    # a share is kept to, but for the one group that training needs
    taken, left = (list(by_group.values()).count(part) for part in ("validation", "test"))
    assert taken == min(max(1, round(validation * number)), number - left - 1)


def test_the_same_seed_gives_the_same_split_whatever_the_order(tmp_path):
    one = parts_of(NAMES, tmp_path)
    assert one == parts_of(NAMES[::-1], tmp_path)
    assert one != parts_of(NAMES, tmp_path, seed=1)


def test_the_seed_of_the_run_counts_only_where_the_file_says_so(make_folder):
    def names_of_test(seed, split):
        config = DataConfig.model_validate({"source": ".", "split": split})
        return {case.name for case in load_data(config, base=make_folder(), seed=seed).test}

    assert len({frozenset(names_of_test(seed, {})) for seed in range(6)}) == 1
    assert len({frozenset(names_of_test(seed, {"seed": None})) for seed in range(6)}) > 1


def test_lists_and_files_of_names(tmp_path):
    (tmp_path / "test.txt").write_text("p3_l.png\n\np4_r\n")
    found = parts_of(NAMES, tmp_path, test="test.txt", validation=["p1_l", "p2_l.tif"])
    assert {n for n, part in found.items() if part == "test"} == {"p3_l", "p4_r"}
    assert {n for n, part in found.items() if part == "validation"} == {"p1_l", "p2_l"}
    with pytest.raises(InputError, match=r"data.split.test: no case is called 'p33_l'; did you me"):
        parts_of(NAMES, tmp_path, test=["p33_l"])
    with pytest.raises(InputError, match=r"there is no file .*tests.txt; did you mean .*test.txt"):
        parts_of(NAMES, tmp_path, test="tests.txt")


def test_a_list_that_would_divide_a_group_is_refused(tmp_path):
    groups = [name[:2] for name in NAMES]
    with pytest.raises(InputError, match="the group 'p1' would stand in test and"):
        parts_of(NAMES, tmp_path, groups=groups, test=["p1_l"], validation=["p1_r"])
    found = parts_of(NAMES, tmp_path, groups=groups, test=["p1_l"])
    assert found["p1_r"] == "test"
    by_group = parts_of(NAMES, tmp_path, groups=groups, test=["p1"])
    assert {name for name, part in by_group.items() if part == "test"} == {"p1_l", "p1_r"}


def test_groups_by_expression_and_by_table(tmp_path):
    cases = items(NAMES)
    assert groups_of(cases, r"^(p\d)_", tmp_path) == [name[:2] for name in NAMES]
    lines = "".join(f"{name}.png,{name[-1]}\n" for name in NAMES)
    (tmp_path / "sides.csv").write_text("name,group\n" + lines)
    assert groups_of(cases, "sides.csv", tmp_path) == [name[-1] for name in NAMES]
    with pytest.raises(InputError, match="finds no group in p1_l, p1_r, p2_l and 15 more"):
        groups_of(cases, "^(p0)", tmp_path)
    (tmp_path / "sides.csv").write_text("p0_l,a\n")
    with pytest.raises(InputError, match=r"sides.csv has no line for p0_r, p1_l, p1_r and 16 more"):
        groups_of(cases, "sides.csv", tmp_path)
    (tmp_path / "sides.csv").write_text("p0_l,a\np0_r\n")
    with pytest.raises(InputError, match=r"sides.csv:2: needs two columns"):
        groups_of(cases, "sides.csv", tmp_path)


def test_folds_are_equal_and_meet_no_test_case(tmp_path):
    folds = [parts_of(NAMES, tmp_path, folds=4, fold=fold) for fold in range(4)]
    test = [{n for n, part in found.items() if part == "test"} for found in folds]
    assert test[0] == test[1] == test[2] == test[3]
    assert len(test[0]) == 4
    sets = [{n for n, part in found.items() if part == "validation"} for found in folds]
    assert [len(names) for names in sets] == [4, 4, 4, 4]
    assert set().union(*sets, test[0]) == set(NAMES)
    assert not any(one & other for one, other in itertools.combinations(sets, 2))
    with pytest.raises(InputError, match="30 folds need as many groups, got 16"):
        parts_of(NAMES, tmp_path, folds=30)


def test_statistics_are_of_the_training_cases_alone(tmp_path):
    x = np.random.default_rng(0).normal(size=(10, 50))
    x[9] += 1e6
    y = np.tile([0, 1], (10, 25))
    np.savez(tmp_path / "a.npz", x=x, y=y)
    split = {"validation": ["8"], "test": ["9"]}
    config = {"source": "a.npz", "normalise": "dataset", "split": split}
    data = load_data(DataConfig.model_validate(config), base=tmp_path)
    assert abs(data.preprocessing.means[0] - x[:8].mean()) < 1e-9
    assert abs(data.preprocessing.deviations[0] - x[:8].std()) < 1e-9
    assert data.test[0].image.mean() > 1e5
