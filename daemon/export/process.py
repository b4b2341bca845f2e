"""The child process that exports (``python -m daemon.export.process DATA_DIR JOB_ID REQUEST NAME LIMITS PARENT``).

It runs at low priority beside whatever the machine does, without a network, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from daemon.derive.document import DamagedDocument
from daemon.derive.files import document_of, folder_of, forget
from daemon.errors import DropframeError, PermanentError, ResourceUnavailable
from daemon.export.files import ExportPlace
from daemon.export.source import USUAL, DerivedDamaged, ExportSource, NothingExported
from daemon.export.writers import WRITERS
from daemon.export_formats import ExportRequest
from daemon.failpoints import failpoint
from daemon.fs.atomic import atomic_write
from daemon.ipc.background import Answer, settle
from daemon.jobs import input_key
from daemon.pipeline.isolation import unshare_network
from daemon.pipeline.video_limits import Limits


def main() -> None:
    """Export once, and say how it ended."""
    data_dir, job_id, request, name, limits, parent = sys.argv[1:]
    answer = settle(int(parent))
    unshare_network()
    answer(_work(Path(data_dir), job_id, request, json.loads(name), Limits(**json.loads(limits))))


def _work(data_dir: Path, job_id: str, request: str, name: str, limits: Limits) -> Answer:
    try:
        export(data_dir, job_id, ExportRequest.from_json(request), name, limits)
    except (DamagedDocument, NothingExported, PermanentError) as error:
        return Answer("refused", str(error))
    except DerivedDamaged as error:
        with contextlib.suppress(OSError):
            forget(data_dir, job_id)  # it is derived again
        return Answer("failed", str(error))
    except OSError as error:
        return Answer("failed", f"{error.strerror or error}.")
    except MemoryError:
        return Answer("failed", "It ran out of memory.")
    except DropframeError as error:
        return Answer("failed", str(error))
    except Exception as error:
        return Answer("failed", f"An unexpected {type(error).__name__}: {error}")
    return Answer("done")


def export(data_dir: Path, job_id: str, request: ExportRequest, name: str, limits: Limits = USUAL) -> Path:
    """Write an export into its place, whole or not at all; what has to be derived is there already.

    Args:
        data_dir: The data folder.
        job_id: Of the result.
        request: What to write.
        name: Of the video.
        limits: What a video may be that is decoded.

    Returns:
        Where it is.

    Raises:
        DamagedDocument: the result is not whole.
        NothingExported: it does not have what the format needs.
        PermanentError: the video cannot be drawn on.
        DerivedDamaged: what was derived cannot be used.
        ResourceUnavailable: the result was exchanged meanwhile.
        OSError: it cannot be read, or the folder cannot be written.
    """
    place = ExportPlace.of(data_dir, job_id, request)
    derived = folder_of(data_dir, job_id)
    with atomic_write(place.path) as file:
        document, video = document_of(data_dir, job_id), data_dir / input_key(job_id)
        source = ExportSource(document, derived, request, place.folder.parent, name, video, limits)
        for block in WRITERS[request.format](source):
            file.write(block)
        failpoint("export.written")
        if ExportPlace.of(data_dir, job_id, request).key != place.key:
            raise ResourceUnavailable("The result was exchanged while it was exported.")
    place.problem_path.unlink(missing_ok=True)
    return place.path


if __name__ == "__main__":
    main()
