"""What the stages hand to each other. Every box is ``(x1, y1, x2, y2)`` in pixels of the source frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

Image: TypeAlias = "NDArray[Any]"  # the daemon and the commands, which know records, load no numpy
"""A picture of shape (height, width, 3), uint8, BGR."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class VideoInfo:
    """What the container says of the track that is analysed, checked against the limits but not trusted."""

    codec: str
    """The codec's common name, such as ``h264`` or ``av1``."""
    width: int
    """Pixels, upright and square: the grid of every box."""
    height: int
    """Pixels, upright and square."""
    fps: float | None
    """Average frames a second; None when the container does not say."""
    duration_s: float | None
    frame_count: int | None
    """Frames to be shown that the container lists; None when it does not say."""
    sample_aspect_ratio: str = "1:1"
    """Width and height of a stored pixel, as far as it was made square."""
    rotation: int = 0
    """Degrees clockwise that stored pictures were turned, after they were mirrored left to right if they were."""
    mirrored: bool = False
    interlaced: bool = False
    """Whether there were interlaced frames, whose fields were taken apart."""
    hdr: str | None = None
    """``pq`` or ``hlg`` if pictures of such range were brought to that of a common screen."""

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form: what is as in most videos (the fields with defaults) is not said."""
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


@dataclass(frozen=True)
class Frame:
    """One decoded picture."""

    index: int
    """Place in presentation order, from 0."""
    timestamp_s: float
    """Presentation time in the container, seconds."""
    image: Image


@dataclass(frozen=True)
class Detection:
    """One object."""

    box: Box
    class_name: str
    class_id: int
    confidence: float


@dataclass(frozen=True)
class TextBlock:
    """One line of text."""

    box: Box
    text: str
    confidence: float


@dataclass(frozen=True)
class Analysis:
    """A frame and what is known of it so far; each stage returns it with more known."""

    frame: Frame
    detections: tuple[Detection, ...] = ()
    """Highest confidence first."""
    text_blocks: tuple[TextBlock, ...] = ()
    """In reading order."""
    text_unread: tuple[Box, ...] = ()
    """Regions of text that the engine gave up."""
    letters_unread: bool = False
    """Whether there is a line in letters that no engine has."""
    objects_unseen: bool = False
    """Whether the detector gave numbers that are not finite, so that objects may be missing."""


@dataclass(frozen=True)
class ModelInfo:
    """A model that had a part in a result; its fields are the entries of the document's ``models``."""

    name: str
    role: str
    """``objects``, ``text_regions`` or ``text``."""
    runtime: str
    """``openvino``, ``onnxruntime``, ``torch`` or ``tesseract``."""
    device: str
    """``cpu`` or ``cuda``."""
    precision: str
    """``fp32``, ``bf16``, ``fp16`` or ``int8``."""
    imgsz: list[int] | None
    """Input height and width in pixels for this video; None when it differs from crop to crop."""
    sha256: str | None
    """Of the weights as they were given."""


class Stage(Protocol):
    """One step of a pipeline. It never calls another stage; the service puts them in order."""

    name: str
    """Shown in stage times."""
    needs: frozenset[str]
    """Fields of Analysis that earlier stages must have filled."""
    gives: frozenset[str]
    """Fields of Analysis that this stage fills."""
    # A stage whose call can take long may count in an attribute ``steps`` what it has done of it, so that it is not
    # taken to be stuck. One whose network was calibrated names the calibration in an attribute ``calibration``, which
    # becomes part of the fingerprint.

    def models(self, info: VideoInfo) -> list[ModelInfo]:
        """Return the models that this stage uses on such a video."""

    def new_segment(self) -> None:
        """Forget everything: no state may cross the edge of a segment."""

    def __call__(self, batch: Sequence[Analysis]) -> list[Analysis]:
        """Return the batch, in the same order, with this stage's fields filled."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    frames_processed: int
    """Frames in the document."""
    frames_total: int | None
    """Frames to be analysed, if the container tells the truth; None if it tells nothing."""
    steps: int
    """Grows whenever anything gets done, decoding frames that are passed over included."""


@dataclass(frozen=True)
class RunReport:
    """How a run ended: what the job record and the logs are told."""

    frames_processed: int
    frames_total: int | None
    sha256: str
    size_bytes: int
    device: str
    summary: dict[str, Any]
    """The document's summary without its texts."""
    stage_seconds: dict[str, float]
    wall_seconds: float
