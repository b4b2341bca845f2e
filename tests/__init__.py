"""Tests, and what they share."""

import os

# No test, whatever it starts, fetches weights from the internet; one that means to has a server of its own.
os.environ["DROPFRAME_AUTO_PULL"] = "false"
