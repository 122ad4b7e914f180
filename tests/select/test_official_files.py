"""The official files: names, contents, what is checked on the way in and out."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from dq_fast.errors import InputError
from dq_fast.select.official import read_official, write_official


def parts(n=20, k=10):
    return np.array_split(np.random.default_rng(0).permutation(n), k)


def test_names_types_and_the_way_back(tmp_path):
    bins = parts(30, 12)
    drawn = np.array([4, 2, 9])
    paths = write_official(tmp_path / "new", "CIFAR10", bins, samples={0.125: drawn, 1: drawn})
    assert [p.name for p in paths[:2]] == ["select_indices_CIFAR10_exp0.npy", "select_indices_CIFAR10_exp1.npy"]
    assert sorted(p.name for p in paths) == sorted(os.listdir(tmp_path / "new"))
    assert {p.name for p in paths[12:]} == {"select_indices_CIFAR10_0.125.npy", "select_indices_CIFAR10_1.0.npy"}
    assert np.load(paths[3]).dtype == np.int64
    back = read_official(tmp_path / "new", "CIFAR10", n=30)
    assert [b.tolist() for b in back.bins] == [b.tolist() for b in bins]
    assert {f: rows.tolist() for f, rows in back.samples.items()} == {0.125: [4, 2, 9], 1.0: [4, 2, 9]}
    assert back.first == 0


def test_data_sets_do_not_mix(tmp_path):
    write_official(tmp_path, "CIFAR10", parts(20, 4))
    write_official(tmp_path, "CIFAR10_1", parts(8, 2), samples={0.5: [1]})
    write_official(tmp_path, "CIFAR100", samples={0.25: [7]})
    assert len(read_official(tmp_path, "CIFAR10").bins) == 4
    assert len(read_official(tmp_path, "CIFAR10_1").bins) == 2
    assert read_official(tmp_path, "CIFAR10").samples == {}
    only = read_official(tmp_path, "CIFAR100")
    assert only.bins == []
    assert list(only.samples) == [0.25]


def test_only_official_names_count(tmp_path):
    write_official(tmp_path, "S", parts(20, 2), samples={0.1: [3]})
    for name in ("S_0.10", "S_exp02", "S_exp2_old", "S_0.1.2", "S_mean"):
        np.save(tmp_path / f"select_indices_{name}.npy", np.array([5]))
    back = read_official(tmp_path, "S")
    assert len(back.bins) == 2
    assert {f: rows.tolist() for f, rows in back.samples.items()} == {0.1: [3]}


def test_bins_numbered_from_one_are_read(tmp_path):
    for k, rows in enumerate(parts(20, 10)):
        np.save(tmp_path / f"select_indices_S_exp{k + 1}.npy", rows)
    back = read_official(tmp_path, "S")
    assert back.first == 1
    assert [b.tolist() for b in back.bins] == [b.tolist() for b in parts(20, 10)]


def test_writing_again_replaces_and_fewer_bins_are_refused(tmp_path):
    write_official(tmp_path, "S", parts(20, 5))
    write_official(tmp_path, "S", parts(30, 5))
    assert sum(map(len, read_official(tmp_path, "S").bins)) == 30
    with pytest.raises(InputError, match=r"folder must hold no other bins of S, got select_indices_S_exp3\.npy"):
        write_official(tmp_path, "S", parts(20, 3))
    assert sum(map(len, read_official(tmp_path, "S").bins)) == 30  # nothing was touched


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        ([[0, 1], [1, 2]], "bins must not share rows, got row 1 in 2 bins"),
        ([[0, 0]], "bin 0 must hold distinct row numbers >= 0"),
        ([[0, -1]], "bin 0 must hold distinct row numbers >= 0"),
        ([[0.5, 1]], "bin 0 must be row numbers"),
        ([[[0, 1]]], "bin 0 must be row numbers"),
    ],
)
def test_wrong_bins_are_not_written(tmp_path, bins, message):
    with pytest.raises(InputError, match=message):
        write_official(tmp_path, "S", bins)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", 7])
def test_names_that_cannot_be_files_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="dataset must be a name"):
        write_official(tmp_path, name, [[0]])
    with pytest.raises(InputError, match="dataset must be a name"):
        read_official(tmp_path, name)


def test_what_was_read_is_checked(tmp_path):
    def put(k, rows):
        np.save(tmp_path / f"select_indices_S_exp{k}.npy", rows)

    with pytest.raises(InputError, match=r"folder must hold select_indices_S_exp0\.npy and so on"):
        read_official(tmp_path, "S")
    put(0, np.array([0, 1]))
    put(2, np.array([2, 3]))
    with pytest.raises(InputError, match="must be numbered from 0 without a gap"):
        read_official(tmp_path, "S")
    put(1, np.array([1, 4]))
    with pytest.raises(InputError, match="bins must not share rows, got row 1"):
        read_official(tmp_path, "S")
    put(1, np.array([5, 6]))
    with pytest.raises(InputError, match="must hold each of the 6 rows once, got row 4 in none"):
        read_official(tmp_path, "S")
    put(1, np.array([5, 4]))
    assert len(read_official(tmp_path, "S").bins) == 3
    with pytest.raises(InputError, match="must hold each of the 7 rows once, got row 6 in none"):
        read_official(tmp_path, "S", n=7)
    with pytest.raises(InputError, match="must hold each of the 5 rows once, got row 5"):
        read_official(tmp_path, "S", n=5)
    np.save(tmp_path / "select_indices_S_0.5.npy", np.array([1, 6]))
    with pytest.raises(InputError, match=r"draw of 0\.5 in .* must hold rows below 6, got 6"):
        read_official(tmp_path, "S")


def test_broken_and_pickled_files_are_refused(tmp_path):
    path = tmp_path / "select_indices_S_exp0.npy"
    for content in (b"", b"not an npy", pickle.dumps([0, 1])):
        path.write_bytes(content)
        with pytest.raises(InputError, match="must be an npy file of row numbers, but is broken"):
            read_official(tmp_path, "S")
    np.save(path, np.array([0, None], object), allow_pickle=True)
    with pytest.raises(InputError, match="must be an npy file of row numbers, but is broken"):
        read_official(tmp_path, "S")
    np.save(path, np.arange(100))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="must be an npy file of row numbers, but is broken"):
        read_official(tmp_path, "S")
    np.save(path, np.array([0.0, 1.0]))
    with pytest.raises(InputError, match="must be row numbers"):
        read_official(tmp_path, "S")
