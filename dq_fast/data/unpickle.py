"""Reading the pickles that CIFAR is published as, without running what a pickle may ask for.

A pickle is a program that calls any importable function. Here the names it may use are few, and each is answered by an
inert stand-in of ours: no object of numpy or of any other module is made by the pickle; arrays are rebuilt afterwards
from their shape, type and bytes, all checked.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.errors import InputError

# Array types a data set may hold: booleans, integers and floats; never objects, which would be pickles in pickles.
_DTYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"b1", "f4", "f8"}


def load_plain_pickle(path: str | Path) -> Any:
    """Dicts, lists, numbers, bytes, texts and numeric numpy arrays of a pickle of Python 2 or 3, any numpy.

    Texts of Python 2 come as bytes.

    Raises:
        InputError: the file holds anything else, or is broken.
    """
    try:
        with open(path, "rb") as file:
            return _plain(_PlainUnpickler(file, encoding="bytes").load())
    except _RefusedError as error:
        raise InputError(f"{path} must hold only arrays and plain containers, but {error}; it was not loaded") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - a broken pickle raises anything: EOFError, KeyError, IndexError, …
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} must be a pickle of arrays and plain containers, but is broken: {text}") from None


class _RefusedError(Exception):
    """The pickle asks for something that is not data."""


class _DType:
    """Stand-in for numpy.dtype: remembers the type's code and byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code
        self.order = "|"
        if self.code not in _DTYPES:
            raise _RefusedError(f"it has an array of type {self.code!r}")

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise _RefusedError(f"it has an array of a compound type {state!r:.80}")
        self.order = order

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Stand-in for numpy.ndarray: remembers shape, type and bytes."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.shape: Any = (0,)
        self.dtype: Any = None
        self.fortran = False
        self.data: Any = b""

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, self.dtype, self.fortran, self.data = state

    def numpy(self) -> np.ndarray:
        if not isinstance(self.dtype, _DType) or not isinstance(self.data, (bytes, bytearray)):
            raise _RefusedError("it has an array of objects")
        flat = np.frombuffer(self.data, self.dtype.numpy())
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class _Name:
    """Stand-in for a function or class: without attributes, so that a pickle cannot change it for the next one."""

    __slots__ = ()

    def __call__(self, *_args: Any) -> Any:
        raise _RefusedError(f"it calls {type(self).__name__}")


class _ArrayType(_Name):
    __slots__ = ()


class _DTypeName(_Name):
    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        return _DType(*args)


class _Reconstruct(_Name):
    __slots__ = ()

    def __call__(self, *_args: Any) -> Any:
        return _Array()  # filled by the state that follows


class _FromBuffer(_Name):
    """numpy's way from pickle protocol 5 on: (buffer, dtype, shape, order)."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        data, dtype, shape, order = args
        array = _Array()
        array.__setstate__((1, shape, dtype, order in ("F", b"F"), bytes(data)))
        return array


class _Scalar(_Name):
    """A numpy number: (dtype, bytes)."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        array = _Array()
        array.__setstate__((1, (), args[0], False, args[1]))
        return array


class _Encode(_Name):
    """Python 3 writes bytes in old protocols as text and its encoding: (text, "latin1")."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        text, encoding = args
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise _RefusedError("it calls _codecs.encode for something other than bytes")
        return text.encode("latin1")


class _NoBytes(_Name):
    """Python 3 writes b"" in old protocols as bytes()."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        if args:
            raise _RefusedError("it calls bytes with arguments")
        return b""


_CORES = ("numpy.core", "numpy._core")  # before and from numpy 2 on
_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayType(),
    ("numpy", "dtype"): _DTypeName(),
    **{(f"{core}.multiarray", "_reconstruct"): _Reconstruct() for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Scalar() for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _FromBuffer() for core in _CORES},
    ("_codecs", "encode"): _Encode(),
    **{(module, "bytes"): _NoBytes() for module in ("builtins", "__builtin__")},  # Python 3, and as 2 called it
    ("collections", "OrderedDict"): OrderedDict,  # a type of the interpreter's own that cannot be changed either
}


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler that knows only the names above."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _NAMES[module, name]
        except KeyError:
            raise _RefusedError(f"it asks for {module}.{name}") from None


def _plain(value: Any) -> Any:
    """The loaded value with arrays rebuilt; anything that is not data is refused."""
    if isinstance(value, _Array):
        array = value.numpy()
        return array[()] if array.ndim == 0 else array
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str, bytes, bytearray)):
        return value
    raise _RefusedError(f"it has a {type(value).__name__}")
