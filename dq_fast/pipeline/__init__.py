"""The stages joined: `dq_fast.compress`, and what the command line runs."""

from dq_fast.pipeline.evaluate import compare_training, find_test_source, train_on
from dq_fast.pipeline.job import CompressResult, compress, compress_run
from dq_fast.pipeline.options import (
    BinOptions,
    ModelOptions,
    Options,
    PackOptions,
    SampleOptions,
    SourceOptions,
    option_names,
)
from dq_fast.pipeline.pack import pack_stage
from dq_fast.pipeline.pictures import write_pictures
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.stages import (
    bins_stage,
    embed_stage,
    load_bins,
    load_embedding,
    load_model,
    load_sample,
    model_stage,
    pick_device,
    reopen_source,
    sample_stage,
    source_stage,
)
from dq_fast.pipeline.summary import store_summary

__all__ = [
    "BinOptions",
    "CompressResult",
    "ModelOptions",
    "Options",
    "PackOptions",
    "RunFolder",
    "SampleOptions",
    "SourceOptions",
    "bins_stage",
    "compare_training",
    "compress",
    "compress_run",
    "embed_stage",
    "find_test_source",
    "load_bins",
    "load_embedding",
    "load_model",
    "load_sample",
    "model_stage",
    "option_names",
    "pack_stage",
    "pick_device",
    "reopen_source",
    "sample_stage",
    "source_stage",
    "store_summary",
    "train_on",
    "write_pictures",
]
