"""The kinds of file that are videos: one table, which doors, decoder and documents go by. The first bytes decide.

A name says only that a file is meant to be a video; what it is called after the dot does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from daemon import container_checks, mp4
from daemon.container_checks import ASF_HEADER, HEAD_BYTES, TS_PACKETS, ts_packet
from daemon.mp4 import REMUX, Completeness, Structure
from daemon.mp4_index import read_at

MP4, ALL = "mp4", "all"
"""Values of the setting ``containers``."""
LEAST_BYTES = 12
"""Fewer first bytes than this say nothing yet."""
EMPTY = "It is empty."
CONVERT = "ffmpeg -i IN OUT.mp4"
EBML, RIFF, FLV, PACK = b"\x1a\x45\xdf\xa3", b"RIFF", b"FLV\x01", b"\x00\x00\x01\xba"
BEGUN = (EBML, RIFF, FLV, PACK, ASF_HEADER)
"""What containers begin with, of which fewer bytes may have come."""


@dataclass(frozen=True)
class Container:
    """One kind of file."""

    name: str
    phrase: str
    """The same in a sentence: a Matroska or WebM file."""
    endings: tuple[str, ...]
    """Of the names that such files have, in lower case."""
    media_type: str
    demuxer: str
    """FFmpeg's demuxer."""
    whitelist: str
    """All names of that demuxer, which nothing else has."""
    codecs: tuple[str, ...]
    """What is decoded in it besides what is decoded in every container; FFmpeg's names."""
    matches: Callable[[bytes], bool]
    """Whether a file can begin with these bytes, ``HEAD_BYTES`` of them or all that there are."""
    check: Callable[[BinaryIO, int], Structure]
    whole: str
    """How a whole file is known, for people."""


def _begins_with(signature: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signature)


def _is_avi(head: bytes) -> bool:
    return head[:4] == RIFF and head[8:12] == b"AVI "


CAMERAS = (".insv", ".lrv", ".lrf", ".glv", ".360", ".osv")
"""Endings that makers of cameras give to MP4 files."""

CONTAINERS = (
    Container(
        "Matroska, WebM",
        "a Matroska or WebM file",
        (".mkv", ".webm", ".mk3d"),
        "video/matroska",
        "matroska",
        "matroska,webm",
        ("ffv1", "vc1", "msmpeg4v3"),
        _begins_with(EBML),
        container_checks.matroska,
        "the segment ends where the file does, and its last cluster is written; a recording without sizes has settled",
    ),
    Container(
        "AVI",
        "an AVI file",
        (".avi", ".divx"),
        "video/x-msvideo",
        "avi",
        "avi",
        ("dvvideo", "msmpeg4v2", "msmpeg4v3", "ffv1", "wmv3"),
        _is_avi,
        container_checks.avi,
        "the RIFF parts end where the file does, and the pictures that the index (idx1) names are written",
    ),
    Container(
        "MPEG-TS, AVCHD",
        "an MPEG transport stream",
        (".ts", ".mts", ".m2ts", ".m2t", ".tod"),
        "video/mp2t",
        "mpegts",
        "mpegts",
        ("vc1",),
        lambda head: ts_packet(head) is not None,
        container_checks.mpeg_ts,
        "it has settled: the format has no end",
    ),
    Container(
        "MPEG-PS",
        "an MPEG program stream",
        (".mpg", ".mpeg", ".vob", ".m2p"),
        "video/mpeg",
        "mpeg",
        "mpeg",
        (),
        _begins_with(PACK),
        container_checks.mpeg_ps,
        "it has settled: the format has no end",
    ),
    Container(
        "FLV",
        "a Flash video",
        (".flv",),
        "video/x-flv",
        "flv",
        "flv",
        ("flv1", "vp6f"),
        _begins_with(FLV),
        container_checks.flv,
        "its last tag ends where the file does, it is as long as its metadata say, and it has settled",
    ),
    Container(
        "ASF, Windows Media",
        "a Windows Media file",
        (".wmv", ".asf"),
        "video/x-ms-asf",
        "asf",
        "asf",
        ("wmv1", "wmv2", "wmv3", "vc1", "msmpeg4v2", "msmpeg4v3"),
        _begins_with(ASF_HEADER),
        container_checks.asf,
        "it is as long as its header says; a broadcast, whose header does not, has settled",
    ),
    Container(
        "MP4, QuickTime, 3GP",
        "an MP4",
        (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".f4v", ".mp4v", ".mqv", ".ismv", ".cmfv", *CAMERAS),
        "video/mp4",
        "mov",
        "mov,mp4,m4a,3gp,3g2,mj2",
        ("dvvideo",),
        mp4.begins_as_mp4,
        mp4.check,
        "its boxes end where the file does, or every picture of its index is there and written",
    ),
)
"""Those with a signature of their own come first: an MP4 is known by the words in it."""
ISO = CONTAINERS[-1]
WEBM = "video/webm"
MEDIA_TYPES = (*(container.media_type for container in CONTAINERS), WEBM)
"""Every answer of ``media_type``."""
ENDINGS = tuple(ending for container in (ISO, *CONTAINERS[:-1]) for ending in container.endings)
"""Endings of all names that say that a file is a video, whether it is taken or refused with the setting's name."""

OTHER_VIDEOS = (
    (b"OggS", "an Ogg file"),
    (b".RMF", "a RealMedia file"),
    (b"\x06\x0e\x2b\x34", "an MXF file"),
    (b"DKIF", "an IVF file"),
    (b"YUV4MPEG2", "a YUV4MPEG file"),
    (b"\x00\x00\x01\xb3", "an MPEG video without a container"),
    (b"\x00\x00\x00\x01", "a video without a container"),
)
NOT_VIDEOS = (
    (RIFF, "a RIFF file (WebP or WAV)"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"ID3", "an MP3 file"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"<", "a text or web page"),
)
"""First bytes and plain name of what is often found under a video's name."""


def container_of(head: bytes) -> Container | None:
    """Tell what a file is by its first bytes, taken or not; None if it is not a video that Dropframe knows."""
    if mp4.has_file_type(head):
        return ISO
    if _named(head, NOT_VIDEOS) and not _is_avi(head):
        return None
    return next((container for container in CONTAINERS if container.matches(head)), None)


def accepted(containers: str) -> tuple[Container, ...]:
    """Return what is taken under a value of the setting ``containers``."""
    return CONTAINERS if containers == ALL else (ISO,)


def first_bytes_problem(head: bytes, containers: str = MP4) -> str | None:
    """Say what is wrong with a file's first bytes, or None if a video that is taken can begin like this.

    Args:
        head: ``HEAD_BYTES`` of the file; fewer are taken for all there is.
        containers: The setting.
    """
    if not head:
        return f"{EMPTY} Copy it again."
    container = container_of(head)
    if container in accepted(containers):
        return mp4.file_type_problem(head) if container is ISO else None
    if container is not None:
        return (
            f'It is {container.phrase}, not an MP4. Dropframe takes it with the setting containers = "all"; or make '
            f"an MP4 of it without loss (`{REMUX}`)."
        )
    what = "an MP4" if containers == MP4 else "a video"
    if name := _named(head, OTHER_VIDEOS):
        return f"It is {name}, which Dropframe does not take. Convert it (`{CONVERT}`)."
    if name := _named(head, NOT_VIDEOS):
        return f"It is {name}, not {what}."
    if _is_text(head):
        return f"It is text, not {what}."
    begins = "an MP4" if containers == MP4 else "any video that Dropframe takes"
    return f"It does not begin as {begins} does. Copy it again; convert another kind of video (`{CONVERT}`)."


def check(file: BinaryIO, size: int, containers: str = MP4) -> Structure:
    """Tell whether a file is a video that is taken, and whole.

    Args:
        file: The open file, unbuffered for least reading.
        size: Its size in bytes.
        containers: The setting.

    Raises:
        OSError: it cannot be read.
    """
    head = read_at(file, 0, HEAD_BYTES)
    if not any(head):
        what = "Its beginning has not been written yet." if head else EMPTY
        return Structure(Completeness.INCOMPLETE, what)
    if _could_be_more(head):
        return Structure(Completeness.INCOMPLETE, f"It has {len(head)} bytes so far.")
    problem = first_bytes_problem(head, containers)
    if problem:
        return Structure(Completeness.NOT_VIDEO, problem)
    container = container_of(head) or ISO
    return container.check(file, size)


def last_bytes_problem(file: BinaryIO, size: int, containers: str = MP4) -> str | None:
    """Say why a file that nobody adds to any more is not taken, or None if at least some of it can be shown.

    Args:
        file: The open file, unbuffered for least reading.
        size: Its size in bytes.
        containers: The setting.

    Raises:
        OSError: it cannot be read.
    """
    return final_problem(check(file, size, containers), containers)


def final_problem(structure: Structure, containers: str = MP4) -> str | None:
    """Say the same of what was found in the file."""
    if structure.reason == EMPTY:
        return f"{EMPTY} Copy it again."
    if structure.completeness is Completeness.INCOMPLETE and not structure.usable:
        return f"{structure.reason} It is not a whole {'MP4' if containers == MP4 else 'video'}."
    return structure.reason if structure.completeness is Completeness.NOT_VIDEO else None


def _could_be_more(head: bytes) -> bool:
    """Tell whether so few bytes are there that a video could begin with them."""
    if len(head) < LEAST_BYTES and not any(head[:3]) and b"ftyp".startswith(head[4:8]):
        return True
    if any(
        signature.startswith(head) or (len(head) < LEAST_BYTES and head.startswith(signature)) for signature in BEGUN
    ):
        return True
    begun = any(head[sync : sync + 1] in (b"", b"G") and len(head) <= size + sync for size, sync in TS_PACKETS)
    return begun and not _is_text(head) and container_of(head) is None and _named(head, NOT_VIDEOS) is None


def _named(head: bytes, signatures: Iterable[tuple[bytes, str]]) -> str | None:
    return next((name for signature, name in signatures if head.startswith(signature)), None)


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)


def media_type(head: bytes) -> str:
    """Return the media type of a video by its first bytes."""
    container = container_of(head) or ISO
    return WEBM if head.startswith(EBML) and b"webm" in head[:64] else container.media_type
