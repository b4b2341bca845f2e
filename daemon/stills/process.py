"""The child process that makes pictures of videos (``python -m daemon.stills.process``).

Videos are decoded here under the guards of the pipeline (``daemon.pipeline.video``), at low priority, in one thread and
without a network; a video that crashes a decoder ends this process and nothing more. It reads requests from its
standard input and answers on what was its standard output, one JSON object a line (the parent's end is
``daemon.stills.client``). It ends by itself when its parent does.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.errors import DropframeError, PermanentError
from daemon.fs.atomic import atomic_write
from daemon.ipc.child import be_killed_first, end_with_parent, private_stdout
from daemon.pipeline.isolation import unshare_network

NICE = 10
"""How far behind others it stands in line for a processor, of 19."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def main() -> None:
    """Make one picture after the other until the parent is gone."""
    pipe = private_stdout()
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # the parent died before it said what to do
    beginning = json.loads(line)
    unshare_network()
    end_with_parent(beginning["parent"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    be_killed_first()
    os.nice(NICE)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    for line in sys.stdin.buffer:
        answer = _answer(json.loads(line), beginning["limits"])
        pipe.write(json.dumps(answer).encode() + b"\n")
        pipe.flush()


def _answer(request: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    try:
        make(request, limits)
    except (PermanentError, ImportError) as error:
        return {"problem": str(error), "passing": isinstance(error, ImportError)}
    except FileNotFoundError as error:
        gone = error.filename is None or Path(error.filename) == Path(request["video"])
        return {"problem": "The video has been deleted." if gone else f"{error.strerror}.", "passing": True}
    except DropframeError as error:
        return {"problem": str(error), "passing": True}
    except OSError as error:
        return {"problem": f"The picture cannot be written: {error.strerror or error}.", "passing": True}
    except MemoryError:
        return {"problem": os.strerror(errno.ENOMEM) + ".", "passing": True}
    except Exception as error:
        logging.getLogger(__name__).error("unexpected error", exc_info=error)
        return {"problem": f"The picture could not be made ({type(error).__name__}).", "passing": True}
    return {"problem": None}


def make(request: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
    """Make a picture.

    Args:
        request: What is wanted, as ``StillsProcess.make`` sends it.
        limits: The fields of ``Limits``.

    Raises:
        PermanentError: it would fail each time.
        DropframeError, OSError: it may work later.
    """
    from daemon.pipeline.drawing import draw
    from daemon.pipeline.video_limits import Limits
    from daemon.pipeline.video_still import WantedFrame, find_frame
    from daemon.stills.lookup import analysed_frame
    from daemon.stills.picture import encode, narrowed

    index, seconds, document = request["index"], request["seconds"], Path(request["document"])
    known = analysed_frame(document, index=index, seconds=seconds)
    anchor = (known["frame_index"], known["timestamp_s"]) if known and "timestamp_s" in known else None
    found = find_frame(Path(request["video"]), Limits(**limits), WantedFrame(index, seconds, anchor))
    image = narrowed(found.image, request["width"])
    if request["boxes"]:
        shown = known or analysed_frame(document, seconds=found.time_s)
        if shown is None:
            raise PermanentError("The result says nothing of that frame, so there is nothing to draw.")
        draw(image, shown["result"], image.shape[1] / found.image.shape[1])
    with atomic_write(Path(request["output"])) as file:
        file.write(encode(image))


if __name__ == "__main__":
    main()
