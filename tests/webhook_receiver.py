"""A receiver of webhooks that keeps what it was sent, and answers as it is told to."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from daemon.jobs import Job, JobStatus, new_job_id, utc_now
from daemon.store.job_store import JobStore
from daemon.webhook_settings import WebhookSettings

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


@dataclass(frozen=True)
class Sent:
    """One request, its headers in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def told(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, Mapping[str, str]]


class EventReceiver:
    """Listens on a port of its own. ``answer`` is asked what to say to each request; it may take its time."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.cut = 0
        """Requests that ended in the middle; nobody would take one for an event."""
        self.answer: Callable[[Sent], Answer] = lambda sent: (204, {})
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    receiver.cut += 1  # whoever sent it was killed in the middle
                    return
                sent = Sent(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                status, headers = receiver.answer(sent)
                receiver.sent.append(sent)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", "0")
                    self.end_headers()
                except OSError:
                    pass  # whoever asked has not waited

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """Say nothing of those who were killed while they asked."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [sent.event_id for sent in self.sent]

    def settings(self, **values: Any) -> WebhookSettings:
        given = {"url": self.url, "secret": SECRET, "allow_private": True}
        return WebhookSettings.model_validate({**given, **values})


@contextmanager
def receiving() -> Iterator[EventReceiver]:
    """Run a receiver."""
    receiver = EventReceiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def ended_job(store: JobStore, status: JobStatus = JobStatus.COMPLETED, **facts: Any) -> Job:
    """Run a job to its end."""
    [job] = store.create([Job(new_job_id(), input_path="video_jobs/x.mp4", source_name=facts.pop("name", "a.mp4"))])
    store.move(job.job_id, JobStatus.RUNNING)
    return store.move(job.job_id, status, finished_at=utc_now(), **facts)


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)
