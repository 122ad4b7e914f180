"""The official Dataset Quantization code's bins and draws, value for value, and its files.

For comparing with published runs and for going on with their files. What it does otherwise than `SampleQuantizer`:

- Bin sizes: in round e every class gives round(f_e · n_c) of the n_c samples it has left, with
  f_e = round(N · fraction) / (samples left in all), both by banker's rounding; the last bin is what remains.
- A bin's rows are those of the greedy choice, class after class, ascending in a class (the pick order is lost); the
  last bin is ascending throughout.
- Draws: round(fraction · n) of every bin and class, with a generator seeded anew for every bin.

Source: the ICCV 2023 code (its quantize_sample and quantize_bin steps with balance on, and their defaults).
"""

from dq_fast.select.official.bins import bin_numbers, official_bins, official_sizes
from dq_fast.select.official.draws import listing_order, official_sample
from dq_fast.select.official.files import OfficialFiles, read_official, write_official

__all__ = [
    "OfficialFiles",
    "bin_numbers",
    "listing_order",
    "official_bins",
    "official_sample",
    "official_sizes",
    "read_official",
    "write_official",
]
