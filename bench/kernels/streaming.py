"""Which kernels stream through large arrays, and so have to load 128 bits at a time in a loop; which do not, and why.

A kernel that stands in neither list is a fault: whoever adds one decides.
"""

from __future__ import annotations

import re

STREAMING: dict[str, str] = {
    r"add_rows<.*": "rows into shared memory (load_tile)",
    r"reduce_rows<.*, true>": "rows into shared memory (load_tile)",
    r"patch_maps<.*": "activations and gradients into shared memory (cp.async, LDGSTS.128)",
    r"patch_maps_last<.*": "activations and gradients into shared memory (cp.async, LDGSTS.128)",
    r"patch_maps_large<.*, false>": "activations and gradients of a channel (for_each_number)",
    r"graph_cut_gram<.*": "rows of similarities (MatrixRow)",
    r"pick_block<.*": "rows of the candidates' similarities (MatrixRow)",
}
"""Pattern of names -> what they stream."""

OTHERS: dict[str, str] = {
    r"reduce_rows<.*, false>": "rows wider than a tile: a warp's lanes read 128 bytes side by side, each to be widened",
    r"add_wide_rows<.*": "a thread a column, a warp's lanes side by side, eight rows on their way",
    r"add_parts<.*": "partial sums, 1 % of the bytes; a warp's lanes read 256 bytes side by side",
    r"gather_rows<.*": "a warp a row; it writes twice as much as it reads, float64 side by side",
    r"pair_dots<.*": "reads mostly float64 products: a warp's lanes 256 bytes side by side",
    r"(narrow_dots|add_pairs)<.*": "bound by float64 arithmetic: d1 operations for each number, read side by side",
    r"centred_norms<.*": "bound by float64 arithmetic: d1 operations for each number read",
    r"patch_maps_large<.*, true>": "channels last: a lane a channel, 128 bytes a warp, at a stride",
    r"patch_scores_finish": "an image's maps, a few KB, from the second-level cache",
    r"renew_gains<.*": "three arrays of float64, a warp's lanes 256 bytes side by side",
    r"pick_winner<.*": "one block, a few KB",
    r"bound_outside<.*": "gathers by an order",
}
"""Pattern of names -> why not."""


def streams(kernel: str) -> bool | None:
    """Whether a kernel has to load 128 bits at a time; None: nobody has decided."""
    if any(re.fullmatch(pattern, kernel) for pattern in STREAMING):
        return True
    return False if any(re.fullmatch(pattern, kernel) for pattern in OTHERS) else None


def reason(kernel: str) -> str:
    """From the lists."""
    listed = {**STREAMING, **OTHERS}
    return next((why for pattern, why in listed.items() if re.fullmatch(pattern, kernel)), "")
