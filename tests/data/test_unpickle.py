"""Pickles that ask for more than data are refused, and nothing of them runs."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dq_fast.data.unpickle import _NAMES, load_plain_pickle
from dq_fast.errors import InputError

from .files import write

PLAIN: list[Any] = [
    {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3]},
    {b"data": np.arange(12, dtype=np.int64).reshape(3, 4).T, b"x": (1.5, None, True, b"", b"\x80\xff", "é")},
    OrderedDict(a=np.float32(1.5), b=np.zeros((0, 3), np.float64), c=np.array([True, False])),
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.uint16).reshape(2, 3)),
]


def same(a: Any, b: Any) -> bool:
    if isinstance(b, (np.ndarray, np.generic)):
        return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    if isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_plain_data_comes_back(tmp_path: Path, value: Any, protocol: int) -> None:
    file = write(tmp_path / "p", pickle.dumps(value, protocol))
    assert same(load_plain_pickle(file), value)


@pytest.mark.parametrize(("old", "new"), [(b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")])
def test_arrays_of_old_and_new_numpy(tmp_path: Path, old: bytes, new: bytes) -> None:
    value = {"data": np.arange(5, dtype=np.uint8)}
    data = pickle.dumps(value, 2).replace(old, new)  # protocol 2 writes names as lines: lengths may change
    assert same(load_plain_pickle(write(tmp_path / "p", data)), value)


def test_pickle_of_python_2(tmp_path: Path) -> None:
    """Written out by hand as Python 2 did it: texts as byte strings."""
    data = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87"
        b"Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff"
        b"\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x02\x7f\x80\xfftbU\x06labelsq\x08]q\t(K\x05K\x06eu."
    )
    pickletools.dis(data, io.StringIO())  # it is a valid pickle
    expected = {b"data": np.array([[0, 1, 2], [127, 128, 255]], np.uint8), b"labels": [5, 6]}
    assert same(load_plain_pickle(write(tmp_path / "p", data)), expected)


class Call:
    """An object whose pickle calls something."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def hostile(touched: str) -> dict[str, bytes]:
    command = f"touch {touched}"
    array = np.array([Call(os.system, command)], dtype=object)
    return {
        "os.system": pickle.dumps({"data": Call(os.system, command)}),
        "in a list": pickle.dumps([1, [Call(os.system, command)]], 0),
        "eval": pickle.dumps(Call(eval, f"open({touched!r}, 'w')")),
        "exec": pickle.dumps(Call(exec, f"open({touched!r}, 'w')"), 4),
        "open": pickle.dumps(Call(open, touched, "w")),
        "getattr": pickle.dumps(Call(getattr, "x", "upper")),
        "object array": pickle.dumps(array),
        "numpy load": b"cnumpy\nload\n(V" + touched.encode() + b"\ntR.",
        "numpy fromfile": b"cnumpy.core.multiarray\nfromfile\n(V/etc/passwd\ntR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "codecs": b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        "bytes with arguments": b"cbuiltins\nbytes\n(I1000000\ntR.",
        "array type called": b"cnumpy\nndarray\n((I3\ntVu1\ntR.",
        "array type left": b"cnumpy\nndarray\n.",
        "function left": b"cnumpy.core.multiarray\n_reconstruct\n.",
        "object dtype": b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR.",
        "compound dtype": b"cnumpy\ndtype\n(Vu1,O\nI0\nI1\ntR.",
        "persistent id": b"Pabc\n.",
        "extension": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("case", list(hostile("")))
def test_hostile_pickle_is_refused(tmp_path: Path, case: str) -> None:
    touched = tmp_path / "touched"
    file = write(tmp_path / "data_batch_1", hostile(str(touched))[case])
    with pytest.raises(InputError, match="data_batch_1") as caught:
        load_plain_pickle(file)
    assert "\n" not in str(caught.value)
    assert not touched.exists()


def test_the_hostile_pickles_are_real(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    pickle.loads(hostile(str(touched))["os.system"])
    assert touched.exists()


def test_a_pickle_cannot_change_the_loader(tmp_path: Path) -> None:
    """BUILD sets attributes on what a name stands for: none of the stand-ins has any that could be set."""
    for target in (b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"ccollections\nOrderedDict\n"):
        for state in (b"(dVx\nI1\ns", b"N(dVx\nI1\ns\x86", b"N(dV__call__\nI1\ns\x86"):
            file = write(tmp_path / "p", b"\x80\x02" + target + state + b"b.")
            with pytest.raises(InputError):
                load_plain_pickle(file)
    assert not any(hasattr(stand_in, "x") for stand_in in _NAMES.values())
    value = {"data": np.arange(5, dtype=np.uint8)}
    assert same(load_plain_pickle(write(tmp_path / "q", pickle.dumps(value, 2))), value)


@pytest.mark.parametrize("shape", [(4, 4), (-1,), (2**40,), "abc", (1.5,)])
def test_array_with_a_wrong_shape(tmp_path: Path, shape: Any) -> None:
    data = pickle.dumps(np.arange(5, dtype=np.uint8), 2)
    built = pickle.dumps((1, shape, np.dtype("u1"), False, b"abcde"), 2)
    head = data[: data.index(b"(K\x01")]
    body = built[2:-1]  # without protocol and stop
    # memo indices of both parts overlap, which is harmless: the first part is complete by then
    file = write(tmp_path / "p", head + body + b"b.")
    if shape == (-1,):
        assert load_plain_pickle(file).tolist() == list(b"abcde")  # numpy's "whatever is there", harmless
        return
    with pytest.raises(InputError, match="broken"):
        load_plain_pickle(file)


@pytest.mark.parametrize("data", [b"", b"\x80", b"no pickle", pickle.dumps({"a": list(range(100))})[:-20], b"."])
def test_broken_pickle(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="broken"):
        load_plain_pickle(write(tmp_path / "p", data))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_plain_pickle(tmp_path / "p")
