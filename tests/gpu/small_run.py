"""A short run of every op on a GPU, for compute-sanitizer: odd shapes, all types, small enough for its slowness.

`python small_run.py [DEVICE]`; ends with status 1 if a result is not the CPU's.
"""

from __future__ import annotations

import logging
import sys

import torch

from dq_fast import ops

_log = logging.getLogger("small_run")


def rows(n: int, d: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Clustered rows [n, d]."""
    g = torch.Generator().manual_seed(n + d)
    return (torch.randn(4, d, generator=g)[torch.arange(n) % 4] + 0.3 * torch.randn(n, d, generator=g)).to(dtype)


def main(device: str) -> int:
    """Run; how many results are wrong."""
    wrong = 0

    def check(name: str, got: torch.Tensor, want: torch.Tensor) -> None:
        nonlocal wrong
        if not torch.allclose(got.cpu().double(), want.double(), rtol=1e-5, atol=1e-5):
            wrong += 1
            _log.error("%s is not what the CPU says", name)

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for n, d in ((1, 1), (65, 33), (130, 64), (257, 5)):
            x = rows(n, d, dtype)
            check(f"row sums {n} x {d} {dtype}", ops.cosine_row_sums(x.to(device)), ops.cosine_row_sums(x))
            odd = x[:, 1:] if d > 1 else x
            check(f"row sums, odd {n} x {d}", ops.cosine_row_sums(odd.to(device)), ops.cosine_row_sums(odd))
    b, h = rows(120, 5), rows(120, 19)
    offsets = [0, 0, 1, 50, 120]
    for center in (False, True):
        how = {"offsets": offsets, "center": center}
        pair = (b.to(device), h.to(device))
        check("row sums of factors", ops.cosine_row_sums(pair, **how), ops.cosine_row_sums((b, h), **how))
        for method in ("gram", "lazy"):
            got = ops.graph_cut_bins(pair, 3, method=method, **how)
            want = ops.graph_cut_bins((b, h), 3, method=method, **how)
            check(f"bins {method}", got[2][got[0]], want[2][want[0]])
    s = torch.rand(67, 67, generator=torch.Generator().manual_seed(1))
    got, want = (ops.graph_cut_greedy(None, 20, similarity=x) for x in (s.to(device), s))
    check("given similarities", got[0], want[0])
    for variant in ("paper", "torchcam", "grad-cam"):
        for shape in ((1, 1, 1, 1), (3, 17, 5, 7)):
            a, g = (
                rows(shape[0] * shape[1], shape[2] * shape[3]).abs().view(shape),
                rows(7, 1).flatten()[0] + torch.ones(shape),
            )
            for slopes in (g, g[:, :, 0, 0].contiguous()):
                on_device = ops.patch_scores(a.to(device), slopes.to(device), (4, 3), variant=variant)
                check(f"patch scores {variant}", on_device, ops.patch_scores(a, slopes, (4, 3), variant=variant))
    return wrong


if __name__ == "__main__":
    logging.basicConfig()
    sys.exit(min(main(sys.argv[1] if len(sys.argv) > 1 else "cuda"), 1))
