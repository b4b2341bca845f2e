"""What the tools of ``agent_tools.py`` answer; agents are given the models' schemas."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from daemon.public_job import PublicJob
from daemon.search.reader import FoundKind

Bbox = Annotated[list[float], Field(description="x1, y1, x2, y2 in pixels.")]


MOST_LETTERS = 300
"""Of a text; what is longer is cut, with an ellipsis."""


class AgentAnswer(BaseModel):
    """Something that an agent is told; its strings can be encoded, whatever was read or a file is called."""

    @model_validator(mode="before")
    @classmethod
    def _encodable(cls, values: Any) -> Any:
        return _encodable(values)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(inner) for name, inner in value.items()}
    return [_encodable(inner) for inner in value] if isinstance(value, list) else value


def _cut(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= MOST_LETTERS else value[: MOST_LETTERS - 1] + "…"


ShownText = Annotated[str, BeforeValidator(_cut)]


class AgentSubmitted(AgentAnswer):
    """A video that has become a job."""

    job_id: str
    source_name: str
    daemon_running: bool = Field(description="Whether Dropframe runs; if not, the job starts once it does.")


class AgentJobs(AgentAnswer):
    """Some jobs."""

    jobs: list[PublicJob] = Field(description="Newest first.")
    next_cursor: str | None = Field(description="For the next, older ones; null if there are none.")
    counts: dict[str, int] = Field(description="All jobs, by status.")
    daemon_running: bool


class AgentText(AgentAnswer):
    """A text and when it was on the screen."""

    text: ShownText
    start_s: float
    end_s: float
    first_frame: int
    confidence: float
    bbox: Bbox


class AgentTexts(AgentAnswer):
    """Texts of a video, by time."""

    job_id: str
    source_name: str
    texts: list[AgentText]
    total: int = Field(description="All that fit the question.")
    next_offset: int | None = Field(description="For the next ones; null if there are none.")


class AgentTrack(AgentAnswer):
    """An object and when it was in the picture."""

    track_id: int
    class_name: ShownText = Field(alias="class")
    start_s: float
    end_s: float
    boxes: int = Field(description="Frames on which it was detected.")
    confidence: float
    best_frame: int = Field(description="The frame_index of the frame that shows it best.")
    best_bbox: Bbox


class AgentTracks(AgentAnswer):
    """Objects of a video, by time."""

    job_id: str
    source_name: str
    tracks: list[AgentTrack]
    total: int = Field(description="All that fit the question.")
    next_offset: int | None = Field(description="For the next ones; null if there are none.")


class AgentHit(AgentAnswer):
    """A text, or all objects of a class in a video."""

    source_name: str
    job_id: str
    kind: FoundKind
    text: ShownText = Field(description="Of objects their class.")
    start_s: float
    end_s: float
    frame_index: int = Field(description="A frame that shows it.")
    bbox: Bbox
    confidence: float
    count: int = Field(description="Frames with the text, or objects of the class.")


class AgentHits(AgentAnswer):
    """What was found, newest videos first."""

    hits: list[AgentHit]
    next_cursor: str | None = Field(description="For the next ones; null if there are none.")
    complete: bool = Field(description="False while the index is being made and some results are not in it yet.")


class AgentExport(AgentAnswer):
    """A file that was written."""

    path: str
    size_bytes: int
    format: str
