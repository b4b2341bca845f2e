"""The pipeline: decode, detect, read, write, side by side. It runs in a process of its own (``process``).

The environment is set here, before any of the libraries is imported: Ultralytics by default goes to the
network, unpickles whatever a checkpoint holds and installs what it names; Tesseract starts a thread a core
for each crop.
"""

import os

os.environ.update(
    YOLO_OFFLINE="true",
    YOLO_AUTOINSTALL="false",
    YOLO_VERBOSE="false",
    ULTRALYTICS_SAFE_LOAD="1",
    OMP_THREAD_LIMIT="1",
)
