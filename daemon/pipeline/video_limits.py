"""What a video may be: the codecs that are decoded, and the limits that a header is held to before the first frame."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.errors import BadVideo

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
"""What is decoded: FFmpeg's name of the codec, and the one that people know."""
DECODERS = ",".join((*CODECS, "libdav1d"))
"""The same for FFmpeg, whose decoder for AV1 has a name of its own."""


@dataclass(frozen=True)
class Limits:
    """What a header may claim before the video is refused."""

    frame_pixels: int = 36_000_000
    fps: float = 1000.0
    seconds: float = 172_800.0
    frames: int = 20_000_000

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


def check_codec(name: str | None) -> None:
    """Refuse what is not decoded.

    Args:
        name: FFmpeg's name of the codec, or the container's if FFmpeg does not know it.

    Raises:
        BadVideo: it is not one of ``CODECS``.
    """
    if name in CODECS:
        return
    known = ", ".join(CODECS.values())
    raise BadVideo(
        f"The video's codec is {name or 'unknown'}, which Dropframe does not decode; it decodes {known}. "
        "Convert the video to H.264."
    )
