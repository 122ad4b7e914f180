"""Which selections train a linear head, or a network, best? `python bench/accuracy --help`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from contenders import CONTENDERS
from pictures import draw_plots
from pool import LINEAR, SPECS
from records import Log, read, summarise, write
from trials import SCRATCH, Asked, run

from dq_fast.errors import InputError

RESULTS = Path(__file__).resolve().parents[1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/accuracy",
        description="Trains linear probes on frozen features of selected samples (--probe scratch: a small network on "
        "their images) and writes mean and spread of the test accuracy. Interrupted, it goes on where it was: what RAW "
        "holds is not done again.",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the images and weights, see sets.py")
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache/dq_fast/accuracy", help="where embeddings are kept"
    )
    parser.add_argument("--raw", type=Path, default=Path("accuracy-raw.csv"), help="every single result is added here")
    parser.add_argument("--csv", type=Path, default=RESULTS / "results/accuracy.csv", help="mean and spread")
    parser.add_argument("--plots", type=Path, default=RESULTS / "plots", help="folder for accuracy-POOLS.png")
    parser.add_argument(
        "--probe",
        nargs="+",
        choices=(*LINEAR, SCRATCH),
        default=list(LINEAR),
        help="scratch: takes a quarter of an hour of one core, and has pools of its own; default: %(default)s",
    )
    names = ", ".join(SPECS)
    parser.add_argument(
        "--pools", nargs="+", choices=SPECS, metavar="NAME", help=f"{names}; default: all that the probes are for"
    )
    parser.add_argument("--contender", nargs="+", choices=CONTENDERS, metavar="NAME", help="default: the pools' own")
    parser.add_argument("--seeds", type=int, help="pools drawn from each set; default: 20, scratch 3")
    parser.add_argument("--keep", nargs="+", type=float, metavar="F", help="fractions kept; default: the pools' own")
    parser.add_argument("--list", action="store_true", help="name pools and contenders, and stop")
    parser.add_argument("--summary-only", action="store_true", help="CSV and plots of what RAW holds, and stop")
    return parser


def main() -> int:
    """Run, sum up, draw."""
    asked = _parser().parse_args()
    if asked.list:
        print("\n".join([*SPECS, "", *CONTENDERS]))
        return 0
    began = time.monotonic()
    try:
        if not asked.summary_only:
            run(
                Log(asked.raw),
                asked.pools or [name for name, spec in SPECS.items() if set(asked.probe) & set(spec.probes)],
                Asked(asked.probe, asked.contender, asked.seeds, tuple(asked.keep) if asked.keep else None),
                data=asked.data,
                cache=asked.cache,
                say=lambda text: print(f"{time.monotonic() - began:7.0f} s  {text}", flush=True),
            )
    except InputError as error:
        print(f"bench/accuracy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {asked.raw}", file=sys.stderr)
        return 130
    summaries = summarise(read(asked.raw))
    write(asked.csv, summaries)
    draw_plots(summaries, asked.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
