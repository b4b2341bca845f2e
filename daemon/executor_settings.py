"""What runs jobs, and on how many pipeline processes: settings, each with its default, unit and a sentence."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from daemon.s3_address import FORM, known_address
from daemon.setting_groups import Seconds


class ExecutorSettings(BaseModel):
    """What runs jobs."""

    executor: Literal["auto", "embedded", "pool", "cluster"] = Field(
        "auto",
        description="What runs jobs: embedded is one pipeline process, with one job at a time; pool has several, which "
        "share long videos; cluster has them on the machines of a Ray cluster (docs/scale-out.md). auto takes a pool "
        "with 2 GPUs or more, with 8 cores or more and no GPU, and where workers is 2 or more; else embedded.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        "auto",
        description="Pipeline processes of a pool or cluster, to which cores and GPUs are dealt out; auto goes by "
        "cores, GPUs and memory, of a cluster by the machines that are up.",
        json_schema_extra={"allowed": "a whole number from 1 to 256, or auto"},
    )
    cluster_address: str = Field(
        "auto",
        min_length=1,
        description="Address of the Ray cluster's head, with its port; auto takes the cluster that this machine is in.",
        json_schema_extra={"allowed": "a host with its port, such as 192.0.2.10:6379, or auto"},
    )
    cluster_store: Annotated[str, AfterValidator(partial(known_address, name="cluster_store"))] | None = Field(
        None,
        description="Object storage through which the machines of a cluster get videos and weights and give back what "
        "they made, such as s3://bucket/prefix; without it they share folders with the daemon (docs/scale-out.md).",
        json_schema_extra={"allowed": FORM},
    )
    silent_seconds: Seconds = Field(
        30.0, ge=4, description="A slot of a cluster that does not answer for this long is ended and started anew."
    )
    group_seconds: Seconds = Field(
        90.0, gt=0, description="Longest part that a pool or cluster cuts videos into, in seconds of video, about."
    )
