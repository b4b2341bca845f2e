"""The pipeline: decode, detect, read, write, side by side. It runs in a process of its own (``process``).

The environment is set here, before any of the libraries is imported: Ultralytics by default goes to the
network, unpickles whatever a checkpoint holds and installs what it names; Tesseract starts a thread a core
for each crop; OpenVINO reports each import to its maker, unless the package that does so cannot be imported.
"""

import os
import sys

os.environ.update(
    YOLO_OFFLINE="true",
    YOLO_AUTOINSTALL="false",
    YOLO_VERBOSE="false",
    ULTRALYTICS_SAFE_LOAD="1",
    OMP_THREAD_LIMIT="1",
)
# "None" makes an import fail (importlib's documented way), and OpenVINO then takes its own stub, which sends nothing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
