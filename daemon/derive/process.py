"""The child process that derives (``python -m daemon.derive.process DOCUMENT FOLDER PARENT``).

It runs at low priority beside whatever the machine does, without a network, and ends with its parent. It answers with
one JSON object on what was its standard output (the parent's end is ``daemon.derive.client``).
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from daemon.derive.derivation import derive
from daemon.derive.document import DamagedDocument
from daemon.derive.files import write_problem
from daemon.errors import DropframeError
from daemon.ipc.background import Answer, settle
from daemon.pipeline.isolation import unshare_network


def main() -> None:
    """Derive once, and say how it ended."""
    document, folder, parent = sys.argv[1:]
    answer = settle(int(parent))
    unshare_network()
    answer(_work(Path(document), Path(folder)))


def _work(document: Path, folder: Path) -> Answer:
    try:
        derive(document, folder)
    except DamagedDocument as error:
        with contextlib.suppress(OSError):  # then it is found out again the next time
            write_problem(folder, document.stat().st_size, str(error))
        return Answer("refused", str(error))
    except OSError as error:
        return Answer("failed", f"{error.strerror or error}.")
    except MemoryError:
        return Answer("failed", "It ran out of memory.")
    except (DropframeError, ImportError) as error:
        return Answer("failed", str(error))
    return Answer("done")


if __name__ == "__main__":
    main()
