"""Rows from whatever holds them, against the same numbers in memory; where they lie, and what mistakes say."""

from __future__ import annotations

import json
import struct
import warnings

import numpy as np
import pytest
import torch

from dq_fast.errors import InputError
from dq_fast.select.rows import as_factors
from dq_fast.select.rows.scratch import scratch


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(37, 5)).astype(np.float32)


def rows(embedding, dtype=torch.float32):
    (tensor,) = as_factors(embedding).tensors
    assert tensor.dtype is dtype
    return tensor.double().numpy()


def test_what_lies_in_memory_is_used_where_it_lies(x):
    given = torch.tensor(x)
    assert as_factors(given).tensors[0].data_ptr() == given.data_ptr()
    assert as_factors(x).tensors[0].data_ptr() == x.__array_interface__["data"][0]
    factors = as_factors((x, given[:, :2]))
    assert factors.widths == (5, 2)
    assert len(factors) == 37
    assert not factors.mapped
    assert factors.nbytes == 37 * 7 * 4
    assert factors.row_bytes == 28
    assert as_factors(factors) is factors
    assert not as_factors(given.clone().requires_grad_()).tensors[0].requires_grad


def test_npy_is_mapped(x, tmp_path):
    for order in "CF":
        np.save(tmp_path / "x.npy", np.asarray(x, order=order))
        factors = as_factors(tmp_path / "x.npy")
        assert factors.mapped
        assert np.array_equal(factors.tensors[0].numpy(), x)
        assert np.array_equal(rows(np.load(tmp_path / "x.npy", mmap_mode="r")), x)
    assert as_factors(np.load(tmp_path / "x.npy", mmap_mode="r")[3:9]).mapped


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_members(x, tmp_path, save):
    save(tmp_path / "x.npz", a=x, b=x[:3].astype(np.float64))
    assert np.array_equal(rows(f"{tmp_path}/x.npz:a"), x)
    assert np.array_equal(rows(f"{tmp_path}/x.npz:b", torch.float64), x[:3])
    assert as_factors(f"{tmp_path}/x.npz:a").mapped is (save is np.savez)
    with pytest.raises(InputError, match="a, b"):
        as_factors(f"{tmp_path}/x.npz:c")


def test_safetensors_of_every_type(x, tmp_path):
    from safetensors.torch import save_file

    kinds = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
    tensors = {str(kind): torch.tensor(x).to(kind) for kind in kinds} | {"whole": torch.arange(6).view(3, 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    for kind in kinds:
        found = as_factors(f"{tmp_path}/x.safetensors:{kind}")
        assert found.mapped
        assert torch.equal(found.tensors[0], tensors[str(kind)])
    assert np.array_equal(rows(f"{tmp_path}/x.safetensors:whole", torch.float64), [[0, 1], [2, 3], [4, 5]])
    with pytest.raises(InputError, match=r"whole$"):
        as_factors(f"{tmp_path}/x.safetensors:nothing")
    with pytest.raises(InputError, match="5 tensors"):
        as_factors(tmp_path / "x.safetensors")


def test_safetensors_at_odd_places(x, tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [37, 5], "data_offsets": [0, x.nbytes]}}).encode()
    header += b" " * (3 - len(header) % 4)  # not a multiple of a number's size
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + x.tobytes())
    assert np.array_equal(rows(tmp_path / "x.safetensors"), x)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 17]}}',
        b'{"a": {"dtype": "F32", "shape": [9, 2], "data_offsets": [0, 72]}}',
        b'{"a": {"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]}}',
        b'{"a": {"dtype": "F8_E4M3", "shape": [4, 4], "data_offsets": [0, 16]}}',
    ],
)
def test_broken_safetensors(header, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(InputError):
        as_factors(tmp_path / "x.safetensors")


def test_parquet_columns(x, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {
            "lists": pa.array(list(x)),
            "fixed": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 5),
            "f_0": x[:, 0],
            "f_1": x[:, 1].astype(np.float64),
            "text": ["a"] * 37,
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10)
    for name in ("lists", "fixed"):
        assert np.array_equal(rows(f"{tmp_path}/x.parquet:{name}"), x)
    for name in ("f_0,f_1", "f_*"):
        assert np.array_equal(rows(f"{tmp_path}/x.parquet:{name}", torch.float64), x[:, :2])
    for name in ("nothing", "text", "lists,f_0"):
        with pytest.raises(InputError, match="it has lists"):
            as_factors(f"{tmp_path}/x.parquet:{name}")
    parts = tmp_path / "parts"
    parts.mkdir()
    pq.write_table(table.slice(0, 20), parts / "0.parquet")
    pq.write_table(table.slice(20), parts / "1.parquet")
    assert np.array_equal(rows(f"{parts}:fixed"), x)
    assert np.array_equal(rows(table.select(["lists"])), x)
    assert np.array_equal(rows(table["fixed"]), x)
    assert np.array_equal(rows(table.select(["f_0", "f_1"]), torch.float64), x[:, :2])


@pytest.mark.parametrize("lists", [[[1.0, 2.0], [3.0]], [[1.0, 2.0], None], [[1.0, 2.0], [3.0, None]]])
def test_parquet_with_gaps(lists, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": lists}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="row 1"):
        as_factors(tmp_path / "x.parquet")


def test_pandas(x):
    pd = pytest.importorskip("pandas")
    assert np.array_equal(rows(pd.DataFrame(x)), x)
    assert np.array_equal(rows(pd.DataFrame({"a": [1, 2], "b": [0.5, 2.5]}), torch.float64), [[1, 0.5], [2, 2.5]])
    assert np.array_equal(rows(pd.Series(list(x))), x)
    with pytest.raises(InputError, match="others too: name"):
        as_factors(pd.DataFrame({"name": ["a"], "b": [1.0]}))
    with pytest.raises(InputError, match="row 1, column b"):
        as_factors(pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, None]}))


def test_numbers_of_other_kinds(x):
    assert np.array_equal(rows(x.astype(">f4")), x)
    assert np.array_equal(rows(x[::-1]), x[::-1])
    assert np.array_equal(rows(np.array([[1, 70_000]], np.uint32), torch.float64), [[1, 70_000]])
    assert np.array_equal(rows(np.array([[True, False]])), [[1, 0]])
    frozen = x.copy()
    frozen.flags.writeable = False
    assert as_factors(frozen).tensors[0].data_ptr() == frozen.__array_interface__["data"][0]


@pytest.mark.parametrize(
    "bad",
    [(), "no.npy", "folder.csv", np.zeros(3), np.zeros((3, 0)), np.array([[None]]), np.array([["a"]]),
     np.zeros((2, 2), complex), (np.zeros((2, 2)), np.zeros((3, 2))), torch.zeros(2, 2).to_sparse(),
     object(), "x.npy:name"],
)  # fmt: skip
def test_mistakes(bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 2)))
    (tmp_path / "folder.csv").write_text("a")
    with pytest.raises(InputError):
        as_factors(bad)


def test_pickles_are_never_read(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[object()]]), allow_pickle=True)
    (tmp_path / "x.pt").write_bytes(b"")
    for name in ("x.npy", "x.pt"):
        with pytest.raises(InputError, match="pickle"):
            as_factors(tmp_path / name)


def test_truncated_npy(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-4])
    with pytest.raises(InputError, match="ends before"):
        as_factors(tmp_path / "x.npy")


def test_scratch_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = scratch((300, 7), torch.float64, purpose="a test", small=0)
    made[:] = 3
    assert made.shape == (300, 7)
    assert float(made.sum()) == 6300
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="TMPDIR"):
        scratch((1 << 50,), torch.float64, purpose="a test")
