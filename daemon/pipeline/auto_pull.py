"""AutoPull: at a start without object weights, fetch the default official ones beside everything else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from daemon.errors import DropframeError, Interrupted
from daemon.pipeline.models import find_weights
from daemon.pipeline.pull import DEFAULT, OFFICIAL, TIMEOUT_SECONDS, Official, pull
from daemon.settings import Settings

log = logging.getLogger(__name__)

HOW_TO_ADD = (
    f"To find objects too, run dropframe models pull {DEFAULT}, or put an Ultralytics .pt into data/models/; "
    "no restart is needed."
)
PATIENCE_SECONDS = 60.0
"""How long the first job waits for weights that are arriving; then it begins without them."""
TRIES = 5
"""How often a fetch that broke off after some bytes goes on by itself."""
AGAIN_SECONDS = 2.0
"""Wait before it does."""
LOOK_SECONDS = 0.1


class AutoPull:
    """Fetches weights in a thread of its own, and tells how that goes. It never ends anything but itself.

    Args:
        settings: Say whether that is allowed, and where weights are.
        official: What can be fetched.
        again_seconds: Wait before a fetch that broke off goes on.
    """

    def __init__(
        self, settings: Settings, official: Mapping[str, Official] = OFFICIAL, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        self._settings = settings
        self._official = official
        self._again_seconds = again_seconds
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._done_bytes: int | None = None
        self._thread = threading.Thread(target=self._fetch, name="auto-pull", daemon=True)
        self.percent: int | None = None
        """How much has been fetched; None before the first byte."""
        self.note = ""
        """What is being fetched and how far that is, or why it is not there; a sentence, or nothing."""

    def start(self) -> None:
        """Begin, if there are no weights and it is allowed."""
        if self._settings.auto_pull and not self._has_weights():
            source = self._official[DEFAULT]
            log.info(
                "No object weights: fetching %s%s from %s (auto_pull = false or --offline forbids it)",
                DEFAULT,
                f", {source.size_bytes / 1e6:.1f} MB" if source.size_bytes else "",
                source.url,
            )
            self.note = f"{DEFAULT} is being fetched from {urlsplit(source.url).netloc}."
            self._thread.start()
        else:
            self._over.set()

    def _has_weights(self) -> bool:
        if self._settings.weights is not None:
            return True
        try:
            return find_weights(self._settings) is not None
        except (DropframeError, OSError):  # whoever loads them says what is wrong with them
            return True

    def wait(self, should_stop: Callable[[], bool] = lambda: False, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the weights are there, will not come, or come too slowly to be waited for.

        An address that has not answered within ``TIMEOUT_SECONDS`` is given up, whatever the system still tries.
        """
        begun = time.monotonic()
        while not self._over.wait(LOOK_SECONDS) and not should_stop():
            waited = time.monotonic() - begun
            if self._done_bytes is None and waited > TIMEOUT_SECONDS:
                self._stopping.set()
                self._give_up(f"{self._official[DEFAULT].url} did not answer within {TIMEOUT_SECONDS:.0f} s.")
                return
            if waited > patience_seconds:
                log.info("%s arrives slowly; jobs begin without it, and it is used once it is there", DEFAULT)
                return

    def stop(self) -> None:
        """End it at the next byte; what has arrived stays, and the next start goes on from there."""
        self._stopping.set()

    def _fetch(self) -> None:
        for number in range(1, TRIES + 1):
            before = self._done_bytes
            try:
                pull(DEFAULT, self._settings, self._progress, self._official)
            except Interrupted:
                return
            except (DropframeError, OSError) as error:
                moved = self._done_bytes != before
                if moved and number < TRIES and not self._stopping.wait(self._again_seconds):
                    continue
                self._give_up(str(error))
                return
            self.note = ""
            log.info("%s is there", DEFAULT)
            self._over.set()
            return

    def _progress(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise Interrupted("Fetching weights was ended; the next start goes on.")
        self._done_bytes = done
        self.percent = 100 * done // max(1, total)
        self.note = f"{DEFAULT} is being fetched ({self.percent} %)."

    def _give_up(self, why: str) -> None:
        if not self._over.is_set():
            self.note = f"{DEFAULT} could not be fetched."
            log.warning("%s Only text is read. %s", why, HOW_TO_ADD)
        self._over.set()
