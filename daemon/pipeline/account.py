"""What a result says of its whole: frames that were expected, decoded and lost, and what could not be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daemon.errors import ModelError
from daemon.pipeline.results import Summary
from daemon.pipeline.video_account import DecodeCount


def summary_warnings(summary: Summary) -> Iterator[str]:
    """Say what could not be done in some frames.

    Raises:
        ModelError: objects could not be seen in any frame. A result without objects would say that there are none,
            and the video would count as done when better weights are there.
    """
    if summary.frames_unseen == summary.frame_count > 0:
        raise ModelError(
            "The weights gave numbers that are not finite in every frame, so no object could be seen; put other "
            "weights in their place, then retry."
        )
    if unseen := summary.frames_unseen:
        frames = "1 frame" if unseen == 1 else f"{unseen} frames"
        yield f"The weights gave numbers that are not finite in {frames}, so objects may be missing there."
    if summary.frames_unread:
        yield (
            f"Text could not be read in {summary.frames_unread} of the frames, where the text engine did not return in "
            "time; text_unread says where."
        )
    if letters := summary.frames_letters_unread:
        frames = "1 frame" if letters == 1 else f"{letters} frames"
        yield (
            f"Text in letters that are not read was seen in {frames}; set text_languages to the languages of the "
            "video, unless its text is mirrored (docs/text-languages.md)."
        )


def frame_account(count: DecodeCount, warnings: Sequence[str]) -> dict[str, object]:
    """Return what the summary says of frames that were expected, decoded and lost."""
    return {
        "frames_decoded": count.decoded,
        "frames_expected": count.expected,
        "frames_failed": count.failed,
        "frames_missing": count.missing,
        "warnings": [*warnings, *count.warnings()],
    }
