"""Whatever is killed when, every end of a job is told at least once, with the same id and the same words."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from daemon.jobs import JobStatus
from daemon.store.job_store import JobStore
from daemon.webhooks.event import Event
from tests.webhook_receiver import Sent, receiving

KILLS = 200


@pytest.mark.slow
def test_no_kill_between_the_end_of_a_job_and_its_delivery_loses_an_event(tmp_path: Path) -> None:
    chance = random.Random(7)

    def answer(sent: Sent) -> tuple[int, dict[str, str]]:
        time.sleep(chance.uniform(0, 0.006))
        return chance.choice([(204, {}), (204, {}), (204, {}), (500, {})])

    accepted: defaultdict[str, set[bytes]] = defaultdict(set)
    with receiving() as receiver:

        def keep(sent: Sent) -> tuple[int, dict[str, str]]:
            status, headers = answer(sent)
            if status == 204:
                accepted[sent.event_id].add(sent.body)
            return status, headers

        receiver.answer = keep
        command = [sys.executable, "-m", "tests.webhook_kills", str(tmp_path), receiver.url, str(KILLS)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=240)
    began_with = json.loads(run.stdout)
    assert len(began_with) == KILLS + 1
    with JobStore.open(tmp_path / "data") as store:
        ended = [job for job in store.jobs() if job.ended]
        assert store.events.find(Event.of_job(ended[0]).event_id) is None
    expected = {Event.of_job(job).event_id: {Event.of_job(job).body()} for job in ended}
    assert (expected.keys() - accepted.keys(), accepted.keys() - expected.keys()) == (set(), set()), "lost, unknown"
    assert accepted == expected
    assert {job.status for job in ended} == {JobStatus.COMPLETED, JobStatus.FAILED}
    assert len(ended) >= KILLS
    met = sum(owed > 0 for owed in began_with)
    assert met > KILLS / 2, f"only {met} of {KILLS} kills came between the end of a job and its delivery"
    repeated = len(receiver.sent) - len(set(receiver.ids))
    said = f"{len(ended)} jobs ended, {met} of {KILLS} kills with events on their way"
    print(f"{said}, {repeated} sent again, {receiver.cut} cut off")
