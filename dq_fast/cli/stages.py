"""`dq-fast embed`, `bins`, `sample`, `pack`: the stages of `compress` one by one."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from dq_fast.cli import arguments
from dq_fast.cli.console import HelpFormatter, add_output_options, emit, human_bytes, progress_bars, table

_RUN_HELP = "run folder of the stages"


def register(verbs: Any) -> None:
    """Add the verbs."""
    embed = verbs.add_parser(
        "embed",
        help="stage 1: train or load the classifier, one pass over the images",
        description="Reads SOURCE once and leaves features and logits of every image in RUN, with the classifier.\n\n"
        "  dq-fast embed mnist5k run",
        formatter_class=HelpFormatter,
    )
    arguments.add_source(embed)
    embed.add_argument("folder", metavar="RUN", help=f"{_RUN_HELP}; made here")
    arguments.add_model(embed)
    arguments.add_run(embed)
    embed.set_defaults(run=run_embed)

    bins = verbs.add_parser(
        "bins",
        help="stage 2: split the samples into bins of diverse samples",
        description="Ranks the samples of RUN into bins (bins.npz: ranking, bin_of, gains).\n\n"
        "  dq-fast bins run --bins 10",
        formatter_class=HelpFormatter,
    )
    bins.add_argument("folder", metavar="RUN", help=_RUN_HELP)
    arguments.add_bins(bins)
    bins.add_argument("--device", default="auto", help="cpu, cuda, …; auto takes a GPU where there is one")
    bins.set_defaults(run=run_bins)

    sample = verbs.add_parser(
        "sample",
        help="stage 3: draw samples from every bin",
        description="Draws uniformly from every bin of RUN (sample.json: the kept ids).\n\n"
        "  dq-fast sample run --keep 0.3",
        formatter_class=HelpFormatter,
    )
    sample.add_argument("folder", metavar="RUN", help=_RUN_HELP)
    arguments.add_sample(sample)
    sample.add_argument("--seed", type=arguments.natural, default=0, help="the same seed draws the same samples")
    sample.set_defaults(run=run_sample)

    pack = verbs.add_parser(
        "pack",
        help="stage 4: score patches, write the store",
        description="Cuts the drawn images of RUN and writes the informative patches to the store OUT.\n\n"
        "  dq-fast pack run out.dq --drop 0.2",
        formatter_class=HelpFormatter,
    )
    pack.add_argument("folder", metavar="RUN", help=_RUN_HELP)
    pack.add_argument("out", metavar="OUT", help="folder of the store; must not exist yet")
    arguments.add_pack(pack)
    arguments.add_run(pack)
    pack.set_defaults(run=run_pack)

    for verb in (embed, bins, sample, pack):
        add_output_options(verb)


def _print(parsed: argparse.Namespace, title: str, result: dict[str, Any]) -> None:
    def show(console: Console) -> None:
        made = table(title, "what", "value")
        for name, value in result.items():
            shown = (
                f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
            )
            made.add_row(name.replace("_", " "), human_bytes(value) if name.endswith("bytes") else shown)
        console.print(made)

    emit(parsed, result, show)


def run_embed(parsed: argparse.Namespace) -> None:
    """Source, model and embedding."""
    from dq_fast import pipeline

    options = pipeline.Options.of(**arguments.given(parsed))
    run = pipeline.RunFolder(parsed.folder)
    device = pipeline.pick_device(parsed.device)
    with progress_bars(parsed.quiet) as progress:
        source = pipeline.source_stage(run, parsed.source, options.source)
        classifier = pipeline.model_stage(
            run,
            source,
            options.model,
            device=device,
            max_bad=options.source.max_bad,
            workers=parsed.workers,
            progress=progress,
        )
        embedding = pipeline.embed_stage(
            run,
            source,
            classifier,
            max_bad=options.source.max_bad,
            device=device,
            batch_size=parsed.batch_size,
            workers=parsed.workers,
            progress=progress,
        )
    accuracy = float((embedding.logits.argmax(1) == embedding.labels).mean())
    result = {
        "images": len(embedding.ids),
        "unreadable": len(embedding.bad),
        "classes": len(source.class_names),
        "features": int(embedding.features.shape[1]),
        "accuracy_on_them": accuracy,
    }
    _print(parsed, f"embedded {parsed.source} into {parsed.folder}", result)


def run_bins(parsed: argparse.Namespace) -> None:
    """Bins from an embedding."""
    from dq_fast import pipeline

    options = pipeline.Options.of(**arguments.given(parsed))
    run = pipeline.RunFolder(parsed.folder, create=False)
    embedding = pipeline.load_embedding(run)
    with progress_bars(parsed.quiet) as progress:
        quantizer = pipeline.bins_stage(
            run, embedding, options.bins, device=pipeline.pick_device(parsed.device), progress=progress
        )
    sizes = [len(b) for b in quantizer.bins_]
    result = {"images": sum(sizes), "bins": len(sizes), "smallest_bin": min(sizes), "largest_bin": max(sizes)}
    _print(parsed, f"bins of {parsed.folder}", result)


def run_sample(parsed: argparse.Namespace) -> None:
    """A draw from the bins."""
    from dq_fast import pipeline

    options = pipeline.Options.of(**arguments.given(parsed))
    run = pipeline.RunFolder(parsed.folder, create=False)
    embedding = pipeline.load_embedding(run)
    rows = pipeline.sample_stage(run, pipeline.load_bins(run), embedding, options.sample)
    result = {"images": len(embedding.ids), "kept": len(rows), "ratio": len(rows) / max(1, len(embedding.ids))}
    _print(parsed, f"sample of {parsed.folder}", result)


def run_pack(parsed: argparse.Namespace) -> None:
    """A store from a draw."""
    from dq_fast import pipeline

    options = pipeline.Options.of(**arguments.given(parsed))
    run = pipeline.RunFolder(parsed.folder, create=False)
    device = pipeline.pick_device(parsed.device)
    source = pipeline.reopen_source(run)
    embedding = pipeline.load_embedding(run)
    with progress_bars(parsed.quiet) as progress:
        pipeline.pack_stage(
            run,
            source,
            pipeline.load_model(run, device),
            embedding,
            pipeline.load_sample(run),
            parsed.out,
            options.pack,
            device=device,
            batch_size=parsed.batch_size,
            workers=parsed.workers,
            progress=progress,
        )
    _print(parsed, f"packed {parsed.folder} into {parsed.out}", pipeline.store_summary(parsed.out))
