"""Tests, and what they share."""

import os
import sys

# No test, whatever it starts, fetches weights from the internet; one that means to has a server of its own.
os.environ["DROPFRAME_AUTO_PULL"] = "false"

# Tests start a thousand processes: each would compile all that it loads, and pytest all tests, anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
