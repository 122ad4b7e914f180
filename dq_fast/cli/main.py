"""Parses the command line, runs a verb, and turns a user's mistake into one line and exit status 2."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import dq_fast
from dq_fast.cli import bench, choose, compress, doctor, inspect, mae, report, restore, stages, train
from dq_fast.cli.console import HelpFormatter
from dq_fast.errors import InputError

_DESCRIPTION = """\
Dataset Quantization, fast: keeps the samples and the image patches that train a model as well as the whole data set.

  dq-fast compress photos/ photos.dq             choose samples, cut patches, write a store: the main job
  dq-fast compress mnist5k out --train           the same on a built-in set, and compare what models trained on it reach
  dq-fast info photos.dq                         what a store holds
  dq-fast export photos.dq restored/             a folder of restored images that any trainer reads

The stages one by one, each on the folder the one before left:
  dq-fast embed SOURCE RUN;  dq-fast bins RUN;  dq-fast sample RUN --keep 0.6;  dq-fast pack RUN OUT

SOURCE is a folder of class folders, CIFAR-10/100 python batches, a parquet file or folder, WebDataset tar shards,
an npz with x and y, or the built-in mnist5k.
"""

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The whole command line, every verb and option."""
    top = argparse.ArgumentParser(
        prog="dq-fast",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
        epilog="dq-fast VERB --help explains a verb and its options.",
    )
    top.add_argument("--version", action="version", version=f"dq_fast {dq_fast.__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in (compress, stages, choose, restore, mae, train, inspect, report, bench, doctor):
        module.register(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0 done, 1 a check failed, 2 a mistake of the user's, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="dq-fast: %(message)s")
    try:
        parsed = _parse(arguments)
        return int(parsed.run(parsed) or 0)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\ndq-fast: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing is left to say, and nowhere to say it
        return 0
    except OSError as error:  # disk full, no permission, …: one line, not a traceback
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line; a preset changes the defaults of the verb's options; what is given goes before it."""
    whole = parser()
    parsed = whole.parse_args(arguments)
    if getattr(parsed, "preset", None) is not None:
        from dq_fast.select.presets import preset

        # The verb's parser is the one of `whole`: parsing again takes its new defaults.
        parsed.verb_parser.set_defaults(**preset(parsed.preset))
        parsed = whole.parse_args(arguments)
        parsed.preset = None
    return parsed


def _fail(message: str) -> int:
    sys.stderr.write(f"dq-fast: error: {' '.join(message.split())}\n")
    return EXIT_MISTAKE
