"""The stages joined: `dq_fast.compress`, and what the command line runs."""

from dq_fast.pipeline.bins_file import BinsFile, is_bins_file
from dq_fast.pipeline.change_plan import RunChange
from dq_fast.pipeline.change_run import change_run
from dq_fast.pipeline.choose import (
    at_depth,
    bins_changes,
    bins_stage,
    load_bins,
    load_sample,
    plan_bins_stage,
    sample_stage,
    write_official_bins,
    write_official_sample,
)
from dq_fast.pipeline.embeddings import (
    EmbeddingFiles,
    FileBins,
    bins_of_files,
    sample_of_file,
)
from dq_fast.pipeline.embeddings_change import change_bins_file
from dq_fast.pipeline.evaluate import compare_training, find_test_source, train_on
from dq_fast.pipeline.job import CompressResult, compress, compress_run, plan_compress
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
    embed_stage,
    load_embedding,
    load_model,
    model_stage,
    pick_device,
    reopen_source,
    source_stage,
)
from dq_fast.pipeline.summary import store_summary

__all__ = [
    "BinOptions",
    "BinsFile",
    "CompressResult",
    "EmbeddingFiles",
    "FileBins",
    "ModelOptions",
    "Options",
    "PackOptions",
    "RunChange",
    "RunFolder",
    "SampleOptions",
    "SourceOptions",
    "at_depth",
    "bins_changes",
    "bins_of_files",
    "bins_stage",
    "change_bins_file",
    "change_run",
    "compare_training",
    "compress",
    "compress_run",
    "embed_stage",
    "find_test_source",
    "is_bins_file",
    "load_bins",
    "load_embedding",
    "load_model",
    "load_sample",
    "model_stage",
    "option_names",
    "pack_stage",
    "pick_device",
    "plan_bins_stage",
    "plan_compress",
    "reopen_source",
    "sample_of_file",
    "sample_stage",
    "source_stage",
    "store_summary",
    "train_on",
    "write_official_bins",
    "write_official_sample",
    "write_pictures",
]
