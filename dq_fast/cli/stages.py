"""`dq-fast embed` and `pack`: the first and the last stage of `compress`; the others are in `choose`."""

from __future__ import annotations

import argparse
from typing import Any

from dq_fast.cli import arguments, keys
from dq_fast.cli.console import HelpFormatter, add_output_options, print_result, progress_bars

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
    arguments.add_embedding(embed)
    arguments.add_run(embed)
    embed.set_defaults(run=run_embed)

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

    for verb in (embed, pack):
        add_output_options(verb)


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
            precision=options.model.embed_precision,
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
    print_result(parsed, f"embedded {parsed.source} into {parsed.folder}", result)


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
            keys=keys.to_write(parsed),
            device=device,
            batch_size=parsed.batch_size,
            workers=parsed.workers,
            progress=progress,
        )
    print_result(parsed, f"packed {parsed.folder} into {parsed.out}", pipeline.store_summary(parsed.out))
