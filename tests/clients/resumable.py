"""Uploads a video with tuspy, which goes on by itself after whatever cuts it off.

Run by the interpreter that has tuspy. The arguments: the address of the sidecar, the video, the bytes of a piece.
"""

# mypy: ignore-errors

from __future__ import annotations

import sys

from tusclient.client import TusClient


def main() -> None:
    """Print the job's id."""
    base_url, video, piece_size = sys.argv[1:]
    uploader = TusClient(f"{base_url}/v1/uploads").uploader(
        video,
        chunk_size=int(piece_size),
        metadata={"filename": "large.mp4", "filetype": "video/mp4", "frame_stride": "5"},
        retries=40,
        retry_delay=0.25,
    )
    uploader.upload()
    sys.stdout.write(uploader.url.rpartition("/")[2])


if __name__ == "__main__":
    main()
