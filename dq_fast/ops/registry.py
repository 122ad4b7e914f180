"""One place where ops are declared: schema, definition in torch, fake, and what serves them on which device.

An op is added with `define` (its torch definition is the fallback on every device, through the dispatcher itself) and
then one `impl` for each device that has a native kernel:

    registry.define("double_it(Tensor x) -> Tensor", reference=lambda x: x + x, fake=torch.empty_like)
    registry.impl("double_it", "cpu", lambda x: native.module("cpu").double_it(...))

An `impl` whose native module, or function in it, is missing is not registered; `backends()` then says why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dq_fast.ops import native
from dq_fast.ops.cuda import launch

DEVICES = {"cpu": "CPU", "cuda": "CUDA"}  # our names and the dispatcher's

LIBRARY = torch.library.Library("dq_fast", "DEF")


@dataclass(frozen=True)
class Backend:
    """What serves an op on a device.

    Attributes:
        op: name of the op.
        device: "cpu" or "cuda".
        serves: "native" or "torch".
        detail: for "native" what the module was built with and which inputs still go to torch;
            for "torch" why there is nothing better.
    """

    op: str
    device: str
    serves: str
    detail: str


_overloads: dict[str, Callable[..., Any]] = {}
_references: dict[str, Callable[..., Any]] = {}
_native: dict[tuple[str, str], Callable[..., Any]] = {}
_on_cpu: dict[str, Callable[..., Any]] = {}  # those of _native for "cpu"
_details: dict[tuple[str, str], str] = {}
_offered: dict[tuple[str, str], Callable[..., Any]] = {}  # all that `impl` was given, whether or not it serves


def define(schema: str, *, reference: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Declare an op by its schema, its definition in torch (any device) and its fake (shapes only)."""
    name = schema[: schema.index("(")]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"dq_fast::{name}", fake, lib=LIBRARY)
    _overloads[name] = getattr(torch.ops.dq_fast, name).default  # calling the packet above it takes longer
    _references[name] = reference
    for device in DEVICES:
        _details[name, device] = f"no native kernel for {device} yet"


def impl(name: str, device: str, function: Callable[..., Any], *, needs: str = "", note: str = "") -> None:
    """Let `function` serve the op on a device, if the native module has what it needs: a function of the op's name.

    `needs` names another function of the module; `note` says which inputs `function` hands on to torch.
    """
    _offered[name, device] = function
    module, reason = native.find(device)
    if module is None:
        _details[name, device] = reason
    elif not hasattr(module, needs or name):
        _details[name, device] = f"{module.__name__} has no {needs or name}; reinstall dq_fast"
    else:
        if device == "cuda":
            function = _where_supported(function, _references[name])
        LIBRARY.impl(name, function, DEVICES[device])
        _native[name, device] = function
        if device == "cpu":
            _on_cpu[name] = function
        _details[name, device] = f"{reason}; {note}" if note else reason


def _where_supported(function: Callable[..., Any], reference: Callable[..., Any]) -> Callable[..., Any]:
    """`function` on the GPUs that the kernels are compiled for, the definition in torch on older ones."""

    @functools.wraps(function)
    def serve(first: Tensor | list[Tensor], second: Tensor | None, *rest: Any, **keywords: Any) -> Any:
        like = first if isinstance(first, Tensor) else (*first, second)[0]  # factors, or else a similarity
        chosen = function if like is None or launch.supports(like.device) else reference
        return chosen(first, second, *rest, **keywords)

    return serve


def op(name: str) -> Callable[..., Any]:
    """The op as the dispatcher knows it."""
    return _overloads[name]


def quickest(name: str, tensors: Iterable[Tensor]) -> Callable[..., Any]:
    """What to call for an op: the native function itself for plain CPU tensors, else the op as the dispatcher knows it.

    The dispatcher takes 6 to 10 microseconds for functions in Python, as long as everything else in a small call. It is
    needed by whoever listens there: torch.compile, fake tensors, tracers, functorch, the profiler.
    """
    function = _on_cpu.get(name)
    if function is None or _listened_to():
        return _overloads[name]
    for x in tensors:
        if type(x) is not Tensor or not x.is_cpu:
            return _overloads[name]
    return function


def _find_listeners() -> Callable[[], object]:
    """A function that is true where something watches the calls of this thread, or where this torch can't be asked."""
    try:
        modes, overrides = torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack
        transforms, tracer = torch._C._functorch.peek_interpreter_stack, torch._C._get_tracing_state
        profiler = torch._C._autograd._profiler_enabled
    except AttributeError:  # names of torch's own, without a promise
        return lambda: True
    compiling = torch.compiler.is_compiling
    return lambda: compiling() or modes() or overrides() or profiler() or transforms() or tracer()


_listened_to = _find_listeners()


def reference(name: str) -> Callable[..., Any]:
    """The op's definition in torch."""
    return _references[name]


def serving(name: str, device: str) -> Callable[..., Any]:
    """The function that the dispatcher calls for tensors on a device type; it may take more keywords than the op."""
    return _native.get((name, device), _references[name])


def offered() -> dict[tuple[str, str], Callable[..., Any]]:
    """For op and device: the function for the native kernels, also where their module is missing (tests emulate it)."""
    return dict(_offered)


def backends() -> dict[str, dict[str, Backend]]:
    """For every op and device ("cpu", "cuda"): what serves it, and why not something better.

    Devices not named here are served by the torch definitions.
    """
    table: dict[str, dict[str, Backend]] = {}
    for (name, device), detail in _details.items():
        serves = "native" if (name, device) in _native else "torch"
        table.setdefault(name, {})[device] = Backend(name, device, serves, detail)
    return table
