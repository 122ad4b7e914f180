"""`dq-fast report`: one HTML file that shows what a run did."""

from __future__ import annotations

import argparse
from typing import Any

from dq_fast.cli import keys
from dq_fast.cli.console import HelpFormatter, add_output_options, natural, print_result, progress_bars

_DESCRIPTION = """\
Writes one HTML file that needs nothing else: summary, images (original, attention, kept patches, where they lie in the
mosaic, restored, with --mae also by a masked autoencoder), the bins in the plane, samples by class and bin, bytes,
times of the stages, parameters, versions. OUT is a store or a run folder. What is not there (no bins yet, the source
gone, keys elsewhere) is left out, and the page says so. Needs the extra `report`: pip install 'dq_fast[report]'; --mae
needs `images` as well.

  dq-fast report photos.dq                      photos.dq.html; bins and times from the run folder photos.dq.work
  dq-fast report run --projection pca           a run folder whose store is not packed yet; a quicker layout
  dq-fast report photos.dq -o look.html --class coat --images 20
  dq-fast report cifar.dq --mae                 restored twice: by --fill, and by the autoencoder of the package
  dq-fast report photos.dq --mae photos.mae     by one that mae-train made
"""


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "report",
        help="write one HTML page: pictures, bins in the plane, counts, bytes, times",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
    )
    verb.add_argument("out", metavar="OUT", help="folder of a store, or a run folder")
    verb.add_argument("-o", "--file", metavar="FILE", help="where to write the page (default: OUT.html)")
    verb.add_argument("--work", metavar="DIR", help="run folder of the store (default: OUT.work, if it is there)")
    keys.add_reading(verb)
    shown = verb.add_argument_group("what is shown")
    shown.add_argument("--images", type=natural, default=8, metavar="N", help="rows of the contact sheet; 0: none")
    shown.add_argument(
        "--points", type=natural, default=2000, metavar="N", help="samples in the plane, at most; 0: no such pictures"
    )
    shown.add_argument(
        "--projection",
        default="tsne",
        choices=("tsne", "umap", "pca"),
        help="how features come into the plane: t-SNE (scikit-learn), UMAP (umap-learn, to be installed by itself), or "
        "principal components",
    )
    shown.add_argument("--class", dest="class_name", metavar="NAME", help="class shown alone (default: the largest)")
    shown.add_argument(
        "--fill",
        default="mean",
        choices=("mean", "nearest", "inpaint"),
        help="what dropped patches become in restored images",
    )
    shown.add_argument(
        "--mae",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="show beside --fill what a masked autoencoder makes of the dropped patches. Without CHECKPOINT: the one "
        "that comes with the package, for images up to 64 px in patches of 4 px. Else as for restore --mae",
    )
    shown.add_argument("--seed", type=natural, default=0, help="which images and points, and their layout")
    verb.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, …; auto: a GPU where there is one")
    add_output_options(verb)
    verb.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Gather and write."""
    from dq_fast import pipeline
    from dq_fast.pipeline.report import write_report

    with progress_bars(parsed.quiet) as progress:
        result = write_report(
            parsed.out,
            parsed.file,
            work=parsed.work,
            keys=keys.to_read(parsed, parsed.out),
            fill=parsed.fill,
            mae=parsed.mae,
            images=parsed.images,
            points=parsed.points,
            projection=parsed.projection,
            class_name=parsed.class_name,
            seed=parsed.seed,
            device=pipeline.pick_device(parsed.device),
            progress=progress,
        )
    shown = {"page": result["report"], "bytes": result["bytes"], "sections": ", ".join(result["sections"])}
    notes = [f"left out: {words}" for words in result["left_out"]]
    print_result(parsed, f"report on {parsed.out}", result if parsed.json else shown, *notes)
