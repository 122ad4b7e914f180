"""In which numbers, and memory format, a network runs that is only looked at: for patch scores and embeddings.

Lower precisions are torch's autocast: products of matrices and convolutions in bfloat16 or float16, weights and what
autocast holds to need it in float32. What "auto" takes follows from what the processor can do and from nothing else, no
clock and no load, so that the same seed gives the same bytes again: bfloat16 changes which patches are kept (of real
images 0.1 to 0.4 % of them at θ = 0.2, docs/SCORING.md), and the two memory formats round differently.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dq_fast.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = ("auto", "fastest", *DTYPES)
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
CUDA_BFLOAT16 = (8, 0)  # compute capability of the first GPUs whose tensor cores multiply bfloat16
ROUNDS = 3  # timed forward passes of each way, the least of which counts

Times = dict[tuple[str, str], float]  # of (precision, memory format): seconds

_measured: weakref.WeakKeyDictionary[nn.Module, dict[Any, Times]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Arithmetic:
    """How a network runs.

    Attributes:
        precision: "float32", "bfloat16" or "float16".
        memory_format: of weights and images, "channels_last" or "contiguous".
        why: this one.
    """

    precision: str
    memory_format: str
    why: str

    def place(self, module: nn.Module) -> None:
        """Give the weights the memory format."""
        module.to(memory_format=FORMATS[self.memory_format])  # type: ignore[call-overload]

    def images(self, images: Tensor) -> Tensor:
        """Images [b, 3, h, w] in the memory format."""
        return images.contiguous(memory_format=FORMATS[self.memory_format])

    def as_dict(self) -> dict[str, str]:
        """JSON-able; `Arithmetic(**…)` reads it."""
        return asdict(self)


def check_precision(name: str, precision: str, device: str | torch.device | None = None) -> None:
    """Refuse a precision that there is not, or that the device does not run networks in."""
    if precision not in PRECISIONS:
        raise InputError(f"{name} must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if precision == "float16" and device is not None and torch.device(device).type != "cuda":
        raise InputError(f'{name} must be "float32" or "bfloat16" on {torch.device(device).type}, got "float16"')


def native_bfloat16(device: str | torch.device) -> bool:
    """Whether the processor has instructions that multiply bfloat16: AMX, AVX512-BF16, tensor cores from Ampere on.

    Others compute it by converting to float32 and back, which is slower than float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= CUDA_BFLOAT16
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # only oneDNN uses these instructions
        return False
    listing = getattr(torch.cpu, "get_capabilities", None)
    if listing is not None:
        found = listing()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # of torch before 2.10, and of none before 2.6
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)


def resolve(precision: str, device: str | torch.device) -> tuple[str, str]:
    """(precision, why) of anything but "fastest"; "auto" by what the processor can do."""
    check_precision("precision", precision, device)
    if precision != "auto":
        return precision, "asked for"
    if native_bfloat16(device):
        return "bfloat16", "the processor multiplies bfloat16"
    return "float32", "the processor does not multiply bfloat16"


def choose(
    precision: str,
    module: nn.Module,
    images: Callable[[], Tensor],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Arithmetic, Times]:
    """How a network is to run.

    Args:
        precision: "fastest" times float32 and bfloat16 in both memory formats; else as `resolve` has it, and the
            memory format is channels-last where the network has 2-D convolutions.
        module: the network, on its device; "fastest" leaves it in another memory format.
        images: makes a batch [b, 3, h, w] on the device, as the network will get them; for "fastest" alone.
        clock: seconds.

    Returns:
        The choice, and the seconds it rests on (none but for "fastest").
    """
    device = device_of(module)
    if precision != "fastest":
        name, why = resolve(precision, device)
        return Arithmetic(name, default_format(module), why), {}
    formats = tuple(FORMATS) if default_format(module) == "channels_last" else ("contiguous",)
    ways = [(name, memory) for name in ("float32", "bfloat16") for memory in formats]
    times = measure(module, images(), ways, clock=clock)
    name, memory = fastest(times)
    return Arithmetic(name, memory, "measured"), times


def fastest(times: Times) -> tuple[str, str]:
    """The way that took least."""
    return min(times, key=lambda way: times[way])


def default_format(module: nn.Module) -> str:
    """Channels-last where there are 2-D convolutions: oneDNN's and the tensor cores' own layout."""
    return "channels_last" if any(isinstance(part, nn.Conv2d) for part in module.modules()) else "contiguous"


def measure(
    module: nn.Module,
    images: Tensor,
    ways: Sequence[tuple[str, str | None]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Least seconds of a forward pass of each (precision, memory format), in turn, after one of each that is not timed.

    A memory format of None leaves weights and images as they are. What was measured for a module and images of a shape
    is remembered while the module lives.
    """
    key = (tuple(images.shape), images.device, images.dtype, tuple(ways))
    known = _measured.setdefault(module, {})
    if key in known:
        return known[key]
    taken: dict[tuple[str, str | None], list[float]] = {way: [] for way in ways}
    for k in range(rounds + 1):
        for precision, memory in ways:
            x = images
            if memory is not None:
                module.to(memory_format=FORMATS[memory])  # type: ignore[call-overload]
                x = images.contiguous(memory_format=FORMATS[memory])
            _wait(images.device)
            begin = clock()
            with torch.no_grad(), computing(images.device, precision):
                module(x)
            _wait(images.device)
            if k:
                taken[precision, memory].append(clock() - begin)
    known[key] = {(precision, memory or ""): min(seconds) for (precision, memory), seconds in taken.items()}
    return known[key]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def computing(device: str | torch.device, precision: str | None) -> Iterator[None]:
    """Forward passes in a precision, whatever autocast is outside; None takes that of outside.

    Weights are converted in every pass: inside a caller's autocast torch's cache would hold a second copy of them until
    that one ends.
    """
    kind = torch.device(device).type
    if precision in (None, "float32") and not torch.is_autocast_enabled(kind):
        yield
    elif precision == "float32":
        with torch.autocast(kind, enabled=False):
            yield
    else:
        dtype = torch.get_autocast_dtype(kind) if precision is None else DTYPES[precision]
        with torch.autocast(kind, dtype=dtype, cache_enabled=False):
            yield


def device_of(module: nn.Module) -> torch.device:
    """Where the weights are."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
