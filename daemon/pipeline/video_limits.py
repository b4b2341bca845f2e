"""What a video may be: the codecs that are decoded, and the limits that a header is held to before the first frame."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.containers import CONTAINERS, MP4, Container
from daemon.errors import BadVideo
from daemon.settings import Settings

CODECS = {
    "h264": "H.264",
    "hevc": "HEVC",
    "av1": "AV1",
    "vp9": "VP9",
    "vp8": "VP8",
    "mpeg4": "MPEG-4",
    "mpeg2video": "MPEG-2",
    "mpeg1video": "MPEG-1",
    "h263": "H.263",
    "mjpeg": "Motion JPEG",
    "prores": "ProRes",
    "dnxhd": "DNxHD",
    "cfhd": "CineForm",
    "qtrle": "QuickTime Animation",
    "png": "PNG",
}
"""What is decoded in every container: FFmpeg's name of the codec, and the one that people know."""
OLDER_CODECS = {
    "ffv1": "FFV1",
    "dvvideo": "DV",
    "vc1": "VC-1",
    "wmv3": "WMV 9",
    "wmv2": "WMV 8",
    "wmv1": "WMV 7",
    "msmpeg4v3": "DivX 3",
    "msmpeg4v2": "MS-MPEG-4 v2",
    "flv1": "Sorenson Spark",
    "vp6f": "VP6",
}
"""What is decoded only in the containers whose files hold it (``Container.codecs``)."""
DECODER_NAMES = {"av1": "av1,libdav1d", "flv1": "flv", "msmpeg4v3": "msmpeg4"}
"""FFmpeg's names of the decoders that are not called as their codecs are."""


def codecs_in(container: Container) -> dict[str, str]:
    """Return what is decoded in a container, as ``CODECS`` has it."""
    return CODECS | {name: OLDER_CODECS[name] for name in container.codecs}


def decoders_for(container: Container) -> str:
    """Return FFmpeg's names of the decoders that may read a container's pictures."""
    return ",".join(DECODER_NAMES.get(name, name) for name in codecs_in(container))


@dataclass(frozen=True)
class Limits:
    """What a file may be and its header may claim before the video is refused."""

    frame_pixels: int = 36_000_000
    fps: float = 1000.0
    seconds: float = 172_800.0
    frames: int = 20_000_000
    containers: str = MP4
    """The setting of that name."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return what the settings allow."""
        return cls(
            containers=settings.containers,
            frame_pixels=settings.max_frame_pixels,
            fps=settings.max_fps,
            seconds=settings.max_video_seconds,
            frames=settings.max_video_frames,
        )

    def check_size(self, width: int, height: int) -> None:
        """Refuse pictures of no size or of too many pixels.

        Raises:
            BadVideo: they are not within the limits; so with the others.
        """
        if width < 1 or height < 1:
            raise BadVideo("The video's frames have no size.")
        if width * height > self.frame_pixels:
            raise BadVideo(
                f"The video's frames are {width}x{height}, over the limit of "
                f"{self.frame_pixels} pixels (setting max_frame_pixels)."
            )

    def check_fps(self, fps: float) -> None:
        """Refuse a rate that is too high."""
        if fps > self.fps:
            raise BadVideo(f"The video claims {fps:.0f} frames/s, over the limit of {self.fps:.0f} (max_fps).")

    def check_duration(self, seconds: float) -> None:
        """Refuse a length that is too long, or less than nothing."""
        if not 0 <= seconds <= self.seconds:
            raise BadVideo(
                f"The video claims to last {seconds:.0f} s, over the limit of {self.seconds:.0f} s (max_video_seconds)."
            )

    def check_frames(self, frames: int) -> None:
        """Refuse a number of frames that is too large."""
        if frames > self.frames:
            raise BadVideo(f"The video claims {frames} frames, over the limit of {self.frames} (max_video_frames).")

    def check_held(self, frames: int) -> None:
        """Refuse a file that turns out to hold too many frames, whatever it claims."""
        if frames > self.frames:
            raise BadVideo(f"The video holds more than {self.frames} frames (max_video_frames).")


def check_codec(name: str | None, container: Container) -> None:
    """Refuse what is not decoded.

    Args:
        container: What the file is.
        name: FFmpeg's name of the codec, or the container's if FFmpeg does not know it.

    Raises:
        BadVideo: it is not one of ``codecs_in``.
    """
    codecs = codecs_in(container)
    if name in codecs:
        return
    known = ", ".join(codecs.values())
    homes = [other.phrase for other in CONTAINERS if name in other.codecs]
    where = f" in {container.phrase}, only in {' or '.join(homes)}" if homes else ""
    raise BadVideo(
        f"The video's codec is {name or 'unknown'}, which Dropframe does not decode{where}; it decodes {known}. "
        "Convert the video to H.264."
    )
