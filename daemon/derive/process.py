"""The child process that derives (``python -m daemon.derive.process DOCUMENT FOLDER SCRATCH PARENT``).

It runs at low priority beside whatever the machine does, without a network, and ends with its parent. It answers with
one JSON object on what was its standard output (the parent's end is ``daemon.derive.client``).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path

from daemon.derive.derivation import derive
from daemon.derive.document import DamagedDocument
from daemon.derive.files import write_problem
from daemon.errors import DropframeError
from daemon.ipc.child import be_killed_first, end_with_parent, private_stdout
from daemon.pipeline.isolation import unshare_network

NICE = 15
"""How far behind others it stands in line for a processor, of 19."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Derive once, and say how it ended."""
    document, folder, scratch, parent = sys.argv[1:]
    answers = private_stdout()
    unshare_network()
    end_with_parent(int(parent))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    be_killed_first()
    os.nice(NICE)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"), YOLO_CONFIG_DIR=scratch, MPLCONFIGDIR=scratch)
    answers.write(json.dumps(_answer(Path(document), Path(folder))).encode() + b"\n")
    answers.flush()


def _answer(document: Path, folder: Path) -> dict[str, str]:
    try:
        derive(document, folder)
    except DamagedDocument as error:
        with contextlib.suppress(OSError):  # then it is found out again the next time
            write_problem(folder, document.stat().st_size, str(error))
        return {"kind": "refused", "message": str(error)}
    except OSError as error:
        return {"kind": "failed", "message": f"{error.strerror or error}."}
    except MemoryError:
        return {"kind": "failed", "message": "It ran out of memory."}
    except (DropframeError, ImportError) as error:
        return {"kind": "failed", "message": str(error)}
    return {"kind": "done", "message": ""}


if __name__ == "__main__":
    main()
