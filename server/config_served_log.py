"""The configuration of the served-feature log: what rankings saw, kept for training."""

from typing import Literal

from pydantic import Field

from predawn.server.config_section import DurationMs, Path, Section, SizeBytes


class ServedLogConfig(Section):
    """Parquet files of what rankings really saw: `predawn train --from-log` learns from them."""

    path: Path = Field("", description='Directory of the files, of one server alone; "": no log.')
    share: float = Field(
        0.01, ge=0, le=1, description="Share of the requests that are logged, by their ids."
    )
    values: Literal["fp16", "fp32", "ids"] = Field(
        "fp16",
        description='How embeddings are kept; "ids": not at all, only their sources and ages.',
    )
    rows_per_file: int = Field(1024, ge=1, description="Most requests in one file.")
    size_limit: SizeBytes = Field(
        2**30, ge=2**16, description="Largest size of all files: the oldest go."
    )
    flush_delay: DurationMs = Field(
        60_000, ge=1, description="Longest wait of a logged request for its file."
    )
    buffer_limit: SizeBytes = Field(
        64 * 2**20, ge=2**16, description="Memory of requests not written yet; above: not logged."
    )
