"""OptionsWatch: whether a whole video has an options file, and whether that can be read yet."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from daemon.fs.identity import shown
from daemon.ingest.options_file import ADVICE, ADVICE_WHERE_FILES_STAY
from daemon.ingest.options_pairing import Pairing, pair
from daemon.ingest.stability import NOT_FILES, Stability, TrackedFile
from daemon.settings import Settings

LISTED_SECONDS = 10.0
"""How long a list of a folder is good enough for what waits there."""


@dataclass(frozen=True)
class OptionsLook:
    """What a look at a video's options file says; all empty if it has none."""

    path: str | None = None
    """Of the options file, below the inbox, if it goes with the video."""
    wait: str = ""
    """Why the video has to wait, in a sentence."""
    reject: str = ""
    """Why it will never become a job, in sentences."""


class OptionsWatch:
    """Looks at options files for the inbox.

    Args:
        settings: For times.
        tracked: The files of the inbox by path; an options file that is found is added.
        plan: Has a file looked at again when it is due.
    """

    def __init__(
        self, settings: Settings, tracked: dict[str, TrackedFile], plan: Callable[[TrackedFile, float], None]
    ) -> None:
        self._settings = settings
        self._keeps = settings.inbox_mode == "keep"
        self._tracked = tracked
        self._plan = plan
        self._listed: dict[str, tuple[float, Pairing]] = {}
        self._fresh: set[str] = set()

    def begin_step(self, now: float) -> None:
        """Forget what is older than this step, but for what waits.

        Args:
            now: Monotonic time in seconds.
        """
        self._fresh.clear()
        self._listed = {folder: listed for folder, listed in self._listed.items() if now - listed[0] < LISTED_SECONDS}

    def of_video(self, path: str, folder: int, now: float, trust_locks: bool) -> OptionsLook:
        """Look whether a whole video has an options file that can be read.

        Args:
            path: The video's.
            folder: Descriptor of its folder.
            now: Monotonic time in seconds.
            trust_locks: As ``TrackedFile.look``.

        Raises:
            OSError: the folder cannot be read.
        """
        above, slash, name = path.rpartition("/")
        pairing = self._pairing(above, folder, now)
        options = pairing.options_of.get(name)
        if options is not None:
            return self._look(f"{above}{slash}{options}", folder, now, trust_locks)
        if name in pairing.rivals_of:
            options, others = pairing.rivals_of[name]
            return OptionsLook(
                wait=f"The options file {shown(options)} could be for it or for {shown(', '.join(others))}; "
                f"rename it to {shown(name)}.options.json if it is for this one."
            )
        return OptionsLook()

    def await_video(self, tracked: TrackedFile, folder: int, now: float) -> Stability:
        """Decide about an options file that can be read: it goes with its video, and is rejected when none comes.

        Args:
            tracked: The options file.
            folder: Descriptor of its folder.
            now: Monotonic time in seconds.

        Raises:
            OSError: the folder cannot be read.
        """
        above, _, name = tracked.path.rpartition("/")
        first = self._pairing(above, folder, now, LISTED_SECONDS).second_to.get(name)
        tracked.why, tracked.due = "It waits for its video.", now + 2
        tracked.goes_with_kept = self._has_kept_video(above, name)
        if first is not None:
            tracked.why = f"It waits for another video: {shown(first)} goes before it."
        patience = tracked.changed_at + self._settings.incomplete_timeout_seconds
        if self._keeps or now < patience or name not in self._pairing(above, folder, now).awaiting:
            return Stability.WAIT
        tracked.why = "It is an options file, and no video of that name came. Drop it again just before its video."
        return Stability.REJECT

    def _has_kept_video(self, above: str, name: str) -> bool:
        """Tell whether the video that an options file of a folder goes with is a job already, and stays."""
        videos = [video for video, options in self._listed[above][1].options_of.items() if options == name]
        tracked = [self._tracked.get(f"{above}/{video}" if above else video) for video in videos]
        return any(each is not None and each.kept for each in tracked)

    def _look(self, path: str, folder: int, now: float, trust_locks: bool) -> OptionsLook:
        tracked = self._tracked.get(path) or TrackedFile(path, first_seen=now, changed_at=now)
        planned = tracked.due
        stability = tracked.look(folder, now, self._settings, trust_locks=trust_locks)
        if path in self._tracked:  # a look for the video's sake changes nothing of when it is looked at itself
            tracked.due = planned
        if tracked.kind != stat.S_IFREG:
            why = NOT_FILES.get(tracked.kind, "It is not a file.")
            is_folder = tracked.kind == stat.S_IFDIR
            return self._refused(None if is_folder else path, f"{self._unusable(path)} {why}")
        if stability is Stability.GONE:
            self._tracked.pop(path, None)
            return OptionsLook()
        if path not in self._tracked:
            self._tracked[path] = tracked
            self._plan(tracked, tracked.due)
        if stability is not Stability.WAIT:
            return OptionsLook(path)
        if not tracked.denied:
            return OptionsLook(wait="It waits for its options file to be complete.")
        if now < tracked.changed_at + self._settings.incomplete_timeout_seconds:
            return OptionsLook(wait=f"{self._unusable(path)} {tracked.why}")
        return self._refused(path, f"{self._unusable(path)} {tracked.why}")

    def _refused(self, path: str | None, why: str) -> OptionsLook:
        """Reject a video for its options file; where files stay, it waits until that is corrected."""
        if self._keeps:
            return OptionsLook(wait=f"{why} {ADVICE_WHERE_FILES_STAY}")
        return OptionsLook(path, reject=f"{why} {ADVICE}")

    def _unusable(self, path: str) -> str:
        return f"Its options file {shown(path.rpartition('/')[2])} cannot be used."

    def _pairing(self, above: str, folder: int, now: float, age_seconds: float = 0.0) -> Pairing:
        """Return whose the options files of a folder are, by a list made in this step or at most so long ago."""
        listed_at, pairing = self._listed.get(above, (-1.0, None))
        if pairing is None or (above not in self._fresh and now - listed_at >= age_seconds):
            pairing = pair(os.listdir(folder))
            self._fresh.add(above)
            self._listed[above] = now, pairing
        return pairing
