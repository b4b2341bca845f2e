"""Inbox: what is found becomes files that are whole, each handed out until it is known what became of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from daemon.fs.folders import Folders
from daemon.fs.identity import shown
from daemon.ingest.agenda import Agenda
from daemon.ingest.model import Blocked, Dropped, Ignored, Kept, Outcome, Taken
from daemon.ingest.names import is_options_name, is_ours
from daemon.ingest.options_watch import OptionsLook, OptionsWatch
from daemon.ingest.root import InboxRoot, Problems
from daemon.ingest.scanner import TOO_DEEP, Scanner, Sighting
from daemon.ingest.stability import Stability, TrackedFile
from daemon.ipc.health import InboxBeat, WaitingBeat
from daemon.jobs import Claim, Identity, Job
from daemon.settings import Settings

log = logging.getLogger(__name__)

LOOKS_A_STEP = 1000
"""Most files looked at in one step, so that the first of a great many do not wait for the last."""
OFFER_AGAIN_SECONDS = 5.0
"""A file that was handed out and never acknowledged is handed out again after this long."""
BLOCKED_SECONDS = 1.0
"""Shortest time until a file that is blocked is handed out again, whatever its ``retry_at``."""
SHOWN_WAITING = 50
SHOWN_DEEP = 5
"""Most folders among them that lie too deep to be looked into."""


class Inbox:
    """The drop folder. One thread calls ``poll`` whenever ``wake`` was called or ``next_due`` has passed.

    Args:
        settings: Where the inbox is and how patient it is.
        wake: Called from another thread when there is something new.
        clock: Monotonic time in seconds.
        answered: Called whenever the folder has answered, so that a hang can be told from work.
    """

    def __init__(
        self,
        settings: Settings,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._answered = answered
        self._problems = Problems()
        self._root = InboxRoot(settings, wake, self._problems)
        self._scanner = Scanner(settings, self._root, self._problems, clock, answered)
        self._tracked: dict[str, TrackedFile] = {}
        self._agenda = Agenda(self._tracked)
        self._options = OptionsWatch(settings, self._tracked, self._agenda.plan)
        self.is_kept: Callable[[str, Identity], bool] = lambda path, identity: False
        """Tells of a path whether this content of it is a job that stays, so that it need not be looked into."""

    def startup(self) -> None:
        """Make the folder, unless it is on a share, and begin to watch; the first ``poll`` scans.

        Raises:
            OSError: the folder cannot be made.
            MachineError: another Dropframe has it.
        """
        self._root.startup()
        self._root.attach()
        self._root.require_ownership()

    def shutdown(self) -> None:
        """End watching. Nothing needs to be saved."""
        self._root.shutdown()

    def refresh_ownership(self) -> None:
        """See ``InboxRoot.refresh_ownership``."""
        self._root.refresh_ownership()

    def poll(self, now: float) -> list[Dropped]:
        """Do what is due: act on hints, scan, look at files. Never raises for what the file system does.

        Args:
            now: Monotonic time in seconds.

        Returns:
            What can be acted on, in the order in which it became stable, then by mtime, then by name. What becomes of
            each is told to ``acknowledge``.
        """
        is_new = self._root.attach()
        was_refused = self._root.refused
        if not self._root.online or not self._root.is_ours():
            return []
        if is_new or was_refused:  # nobody looked meanwhile, so nobody knows that it was quiet
            for tracked in self._tracked.values():
                tracked.changed_at = now
                self._agenda.plan(tracked, now)
        closed = set()
        for sighting in self._scanner.sightings(now, self._tracked):
            self._track(sighting, now)
            if sighting.closed:
                closed.add(sighting.path)
        self._root.prove_events(now)
        with Folders(self._root.path) as folders:
            return self._look_around(folders, now, closed)

    def acknowledge(self, outcomes: Iterable[Outcome]) -> None:
        """Keep what became of files that were handed out; why one stays is shown in ``health``.

        One that was taken or rejected is looked at again at once, and forgotten when it is gone. One that is blocked
        is handed out again at its ``retry_at``, one that is ignored only with another content.
        """
        now = self._clock()
        for outcome in outcomes:
            tracked = self._tracked.get(outcome.dropped.path)
            if tracked is None or tracked.identity != outcome.dropped.identity:
                continue
            match outcome:
                case Blocked(reason=reason, retry_at=retry_at):
                    tracked.blocked = tracked.why = reason
                    tracked.offer_again = max(retry_at, now + BLOCKED_SECONDS)
                    self._agenda.plan(tracked, max(retry_at, now))
                case Ignored(reason=reason):
                    tracked.ignored = tracked.why = reason
                case Kept() | Taken(job=Job(claim=Claim(stays=True))):
                    tracked.kept = True
                case _:
                    tracked.blocked, tracked.offer_again = "", now
                    if options := self._tracked.get(outcome.dropped.options_path or ""):
                        self._agenda.plan(options, now)  # gone with it, a link or a pipe too

    def next_due(self, now: float) -> float:
        """Return after how many seconds ``poll`` should be called at the latest."""
        if not self._root.online or self._root.refused:
            return self._settings.poll_seconds
        planned = self._agenda.next_due()
        due = self._scanner.due() if planned is None else min(self._scanner.due(), planned)
        return max(0.0, due - now)

    @property
    def online(self) -> bool:
        """Whether the folder could be reached by the latest ``poll``."""
        return self._root.online

    def is_stuck(self, longest_seconds: float, now: float) -> bool:
        """See ``Scanner.is_stuck``; not while another Dropframe has the inbox."""
        return not self._root.refused and self._scanner.is_stuck(longest_seconds, now)

    def health(self, now: float | None = None) -> InboxBeat:
        """Return how watching goes; callable from any thread.

        Args:
            now: Monotonic time in seconds; the present if not given.
        """
        now = self._clock() if now is None else now
        waiting = [tracked for tracked in list(self._tracked.values()) if tracked.waits]
        watch, last_scan = self._root.watch, self._scanner.last_good  # another thread may take it away
        arrived = None if watch is None else watch.arrived_at
        return InboxBeat(
            mode="polling" if watch is None else "events",
            file_system=self._root.file_system,
            online=self._root.online,
            last_good_scan_age_s=None if last_scan is None else now - last_scan,
            canary_age_s=None if arrived is None else now - arrived,
            waiting_count=len(waiting) + len(self._scanner.too_deep),
            waiting=self._shown_waiting(waiting, now),
            overflows=self._scanner.overflows,
            problem=str(self._problems) or None,
        )

    def _shown_waiting(self, waiting: list[TrackedFile], now: float) -> tuple[WaitingBeat, ...]:
        """Return the first of the files that wait, and of the folders that lie too deep as far as there is room."""
        oldest = sorted(waiting, key=lambda each: (not is_ours(each.name), each.first_seen, each.path))
        files = [
            WaitingBeat(
                name=shown(tracked.path),
                size_bytes=tracked.identity.size if tracked.identity else 0,
                age_s=now - tracked.first_seen,
                why=tracked.explain(now),
            )
            for tracked in oldest[:SHOWN_WAITING]
        ]
        folders = [WaitingBeat(f"{shown(path)}/", 0, 0.0, TOO_DEEP) for path in self._scanner.too_deep[:SHOWN_DEEP]]
        return (*files[: SHOWN_WAITING - len(folders)], *folders)

    def _track(self, sighting: Sighting, now: float) -> None:
        """Have a file looked at; the oldest of all that a scan has found are looked at first."""
        tracked = self._tracked.get(sighting.path)
        if tracked is None:
            tracked = TrackedFile(sighting.path, first_seen=now, changed_at=now, identity=sighting.identity)
            tracked.kept = sighting.identity is not None and self.is_kept(sighting.path, sighting.identity)
            self._tracked[sighting.path] = tracked
        if sighting.identity is None:  # an event: somebody is busy with it
            tracked.touched_at = now
        self._agenda.plan(tracked, now)

    # Looking and handing out.

    def _look_around(self, folders: Folders, now: float, closed: set[str]) -> list[Dropped]:
        self._options.begin_step(now)
        found: list[Dropped] = []
        todo = self._agenda.take(now, LOOKS_A_STEP)
        for tracked in todo.values():
            dropped = self._look(tracked, folders, now, tracked.path in closed)
            if dropped is not None:
                found.append(dropped)
            if tracked.path in self._tracked:
                self._agenda.plan(tracked, max(tracked.due, now))
        for path in closed - todo.keys():  # over this step's limit: what the event said must not be lost
            if path in self._tracked:
                self._tracked[path].closed_at = now
        return sorted(found, key=lambda dropped: (dropped.identity.mtime_ns, dropped.path))

    def _look(self, tracked: TrackedFile, folders: Folders, now: float, closed: bool) -> Dropped | None:
        """Look at a file; hand it out if it can be acted on."""
        self._answered()
        options = OptionsLook()
        try:
            descriptor = folders.get(tracked.path.rpartition("/")[0])
            stability = tracked.look(descriptor, now, self._settings, closed, self._root.trusts_locks)
            if stability is Stability.WHOLE:
                stability, options = self._look_for_partner(tracked, descriptor, now)
        except (FileNotFoundError, NotADirectoryError):
            stability = Stability.GONE
        except OSError as error:
            tracked.why = f"Its folder cannot be read: {error.strerror}."
            tracked.due = now + self._settings.poll_seconds
            return None
        if stability is Stability.GONE:
            del self._tracked[tracked.path]
            return None
        tracked.handed_out = False
        if stability in (Stability.IGNORE, Stability.WAIT):
            self._warn_of_long_writing(tracked, now)
            return None
        return self._offer(tracked, stability, options.path, now)

    def _look_for_partner(self, tracked: TrackedFile, folder: int, now: float) -> tuple[Stability, OptionsLook]:
        """Look for the options file of a whole video, or for the video of an options file."""
        if is_options_name(tracked.name):
            return self._options.await_video(tracked, folder, now), OptionsLook()
        options = self._options.of_video(tracked.path, folder, now, self._root.trusts_locks)
        if options.wait:
            tracked.why, tracked.due = options.wait, now + 0.5
            return Stability.WAIT, options
        if options.reject:
            tracked.why = options.reject
            return Stability.REJECT, options
        return Stability.WHOLE, options

    def _offer(
        self, tracked: TrackedFile, stability: Stability, options_path: str | None, now: float
    ) -> Dropped | None:
        """Hand a file out, and look again in the next step whether it is still there."""
        assert tracked.identity is not None
        reason = tracked.why if stability is Stability.REJECT else None
        tracked.why = tracked.blocked or reason or "It is whole and waits to be taken in."
        tracked.handed_out = now >= tracked.offer_again
        if not tracked.handed_out:
            tracked.due = tracked.offer_again
            return None
        tracked.offer_again = now + OFFER_AGAIN_SECONDS
        tracked.due = now
        return Dropped(tracked.path, tracked.identity, options_path, reason)

    def _warn_of_long_writing(self, tracked: TrackedFile, now: float) -> None:
        long = now - tracked.first_seen >= self._settings.incomplete_timeout_seconds
        if tracked.open_for_writing and long and not tracked.warned:
            tracked.warned = True
            log.warning("%s waits: another program holds it open for writing.", shown(tracked.path))
