"""Write docs/formats.md from the table of containers and codecs: ``python -m tools.formats_doc`` (``make docs``)."""

from __future__ import annotations

import textwrap
from pathlib import Path

from daemon.containers import CONTAINERS, ISO
from daemon.mp4 import REMUX
from daemon.pipeline.video_limits import CODECS, OLDER_CODECS

TARGET = Path(__file__).parents[1] / "docs" / "formats.md"

HEAD = """# Which videos are taken

The first bytes of a file decide what it is, at every door alike: the folder, `dropframe submit`, HTTP and the page. Its
name only says that it is meant to be a video. This page is made from the code by `make docs`; a test compares them.

## Containers

The setting `containers` says which are taken: `"mp4"`, the default, or `"all"`. Under `"mp4"` a file of another kind is
refused with a sentence that names the setting and the line that makes an MP4 of it without loss:

    REMUX

| container | taken under | names that end in | it is whole once | FFmpeg's demuxer | sent as |
| --- | --- | --- | --- | --- | --- |
"""

WAITING = """
A file that is not whole waits, and `dropframe jobs` says for what. If it has not grown for `incomplete_timeout_seconds`
it is taken for the pictures that are in it, and the result says that it was cut short; without pictures it is rejected.
"Settled" means that nobody has it open and that size and time have stayed the same for `settle_seconds`. MPEG-TS,
MPEG-PS and broadcast ASF have no end by which a whole file could be told, so they must stay the same five times as
long; on a share, where nobody sees who writes, copy them under a name that ends in `.part` and rename them.

## Codecs

Everywhere: CODECS.

Besides, only where files hold it:

| codec | in |
| --- | --- |
"""

REST = """
All else is refused before a picture is decoded, with the codec's name. FFmpeg can decode some 270 more; each would be
native code that reads what strangers send. What is on the list is either today's, or what cameras, recorders and
editors leave behind. The older ones earned their place so:

* WMV, VC-1, MS-MPEG-4 and Sorenson Spark are built on the code that MPEG-4 and H.263 need anyway.
* DV and FFV1 code each picture for itself, and are what tapes and archives come in.
* VP6 is a decoder of its own, and Flash archives of 2005 to 2010 hold little else; so it is opened in FLV alone.
* Not taken: Cinepak, SVQ, Indeo, RealVideo, Theora, HuffYUV, raw pictures, screen codecs. They are rare, and each is
  one more decoder that need not be there. Convert them: `ffmpeg -i IN OUT.mp4`.

## What differs from MP4

* `summary.frames_expected` and `video.frame_count` are null, as nobody knows before the end; AVI lists its frames, and
  dropped ones are not counted.
* `timestamp_s` counts from where players begin (the file's `start_time`), which in a transport stream may be days after
  0. In MP4 it is the time in the container with edit lists applied, as ffprobe prints it.
* `video.duration_s` is that of the file where the track does not tell its own, and null where neither does.
* A file that was cut says how many bytes are missing ("The video is cut short: 34470 bytes are missing at its end.");
  AVI says how many frames, as MP4 does. MPEG-TS and MPEG-PS have no end, so nothing is said of a missing rest.

The picture is made in the same way everywhere: turned as the file says, with square pixels, interlaced fields taken
apart, HDR in the colours of a common screen. Where a file does not tell its colour matrix, pictures of 720 lines or
more are taken for BT.709 and others for BT.601, as browsers do it (VP9 and AV1: BT.601).

## What a file cannot do

A file is opened by the one demuxer of its container and may not name another file or address: playlists, concat
scripts, ASX and ASF redirectors, SDP and DASH are not among the containers, and the data references of QuickTime are
not followed. Covers and attachments are not decoded. Under `"mp4"` no other demuxer is ever started, not even for a job
that was taken before the setting was changed.

## Playing them on the page

The page plays what the browser can: MP4 and WebM everywhere, Matroska in Chromium. Where it cannot, it says so, lists
what was found, and offers the file.
"""


def page() -> str:
    """Return the whole page."""
    rows = [
        f"| {container.name} | {'both' if container is ISO else '`all`'} | {' '.join(container.endings)} "
        f"| {container.whole} | `{container.demuxer}` | `{container.media_type}` |\n"
        for container in sorted(CONTAINERS, key=lambda container: container is not ISO)
    ]
    older = [
        f"| {label} | {'; '.join(container.name for container in CONTAINERS if name in container.codecs)} |\n"
        for name, label in OLDER_CODECS.items()
    ]
    codecs = "\n".join(textwrap.wrap(f"Everywhere: {', '.join(CODECS.values())}.", 120))
    waiting = WAITING.replace("Everywhere: CODECS.", codecs)
    return HEAD.replace("REMUX", REMUX) + "".join(rows) + waiting + "".join(older) + REST


if __name__ == "__main__":
    TARGET.write_text(page())
