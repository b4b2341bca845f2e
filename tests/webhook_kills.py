"""Daemons in small that end jobs and tell of them, killed at random moments: ``python -m tests.webhook_kills``.

Only the job store and what tells of events run; one process loads them once, and each life is a fork of it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

from daemon.jobs import JobStatus
from daemon.settings import Settings
from daemon.store.job_store import JobStore
from daemon.webhooks import courier
from daemon.webhooks.notifications import Notifications, receivers_of
from tests.webhook_receiver import SECRET, ended_job

MOST_SECONDS = 0.03
"""The longest that a life lasts after the first job in it has ended."""


def live(settings: Settings, ready: int, seed: int, *, last: bool) -> None:
    """End jobs until we are killed; in the last life, only tell what is owed."""
    chance = random.Random(seed)
    courier.WAITS = (0.02,) * 1000
    with JobStore.open(settings.data_dir) as store:
        owed = len(store.events.owed_to(settings.webhooks[0].key))
        notifications = Notifications(settings, store, receivers_of(settings, store, "urn:dropframe:kills", str))
        notifications.start()
        while last:
            if not store.events.owed_to(settings.webhooks[0].key):
                notifications.stop()
                os.write(ready, b"%d\n" % owed)
                return
            time.sleep(0.01)
        while True:
            ended_job(store, chance.choice([JobStatus.COMPLETED, JobStatus.FAILED]))
            os.write(ready, b"%d\n" % owed)
            time.sleep(chance.uniform(0, 0.005))


def fork(settings: Settings, seed: int, *, last: bool = False) -> int:
    """Run one life to its end; return how many events were owed at its beginning."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            live(settings, writing, seed, last=last)
        finally:
            os._exit(0)
    os.close(writing)
    owed = int(os.read(reading, 100).split()[0])
    if not last:
        time.sleep(random.Random(seed).uniform(0, MOST_SECONDS))
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    return owed


def main(home: str, url: str, kills: str) -> None:
    """Print how many events each life began with."""
    logging.disable()
    webhook = {"url": url, "secret": SECRET, "allow_private": True}
    settings = Settings(home=Path(home), webhooks=[webhook])
    began_with = [fork(settings, seed) for seed in range(int(kills))]
    began_with.append(fork(settings, 0, last=True))
    sys.stdout.write(json.dumps(began_with))


if __name__ == "__main__":
    main(*sys.argv[1:])
