"""An endpoint is sent signed events that other people's libraries accept, and its answers are understood."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from daemon.ipc.rejected_list import RejectedRecord
from daemon.jobs import ErrorKind, Job, JobStatus
from daemon.webhooks.delivery import Delivery, DeliveryEnd
from daemon.webhooks.endpoint import Endpoint, retry_after
from daemon.webhooks.event import Event
from tests.webhook_receiver import OTHER_SECRET, SECRET, EventReceiver, Sent, receiving

SOURCE = "urn:dropframe:0123456789abcdef"
JOB = Job(
    "3f0f6a5e-5f43-4bd7-9d0b-111111111111",
    status=JobStatus.COMPLETED,
    source_name="Grüße 100 %.mp4",
    finished_at="2027-01-15T12:00:00.123456+00:00",
    frames_processed=100,
    summary={"frame_count": 100, "objects": {"car": 3}},
)
FAILED = Job(
    "3f0f6a5e-5f43-4bd7-9d0b-222222222222",
    status=JobStatus.FAILED,
    source_name="b.mp4",
    finished_at="2027-01-15T12:00:00.000000+00:00",
    error_kind=ErrorKind.PERMANENT,
    error_message="It has no pictures.",
)
REJECTED = RejectedRecord(
    "Urlaub/größe \\xff.mp4", "rejected/x.mp4", "It is text.", "2027-01-15T12:00:00.000000+00:00", 4, "2027", told=False
)
EVENTS = [Event.of_job(JOB), Event.of_job(FAILED), Event.of_rejected(REJECTED), Event.for_test()]


@pytest.fixture
def receiver() -> Iterator[EventReceiver]:
    with receiving() as running:
        yield running


def deliver(receiver: EventReceiver, event: Event | None = None, seconds: float = 15.0, **values: object) -> Delivery:
    return Endpoint(receiver.settings(**values), SOURCE, seconds).deliver(event or Event.of_job(JOB))


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_accepted_by_the_library_of_standard_webhooks(receiver: EventReceiver, event: Event) -> None:
    assert deliver(receiver, event).end is DeliveryEnd.DONE
    [sent] = receiver.sent
    told = Webhook(SECRET).verify(sent.body, dict(sent.headers))
    assert told == {"type": event.type, "timestamp": event.time, "data": event.data}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER_SECRET).verify(sent.body, dict(sent.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(sent.body + b" ", dict(sent.headers))


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_a_valid_cloud_event(receiver: EventReceiver, event: Event) -> None:
    deliver(receiver, event)
    [sent] = receiver.sent
    read = from_binary_event(HTTPMessage(headers=dict(sent.headers), body=sent.body), JSONFormat())
    assert (read.get_id(), read.get_source()) == (event.event_id, SOURCE)
    assert (read.get_type(), read.get_specversion()) == (f"dropframe.{event.type}", "1.0")
    assert read.get_subject() == event.subject
    assert read.get_time() == datetime.fromisoformat(event.time)
    assert read.get_datacontenttype() == "application/json"
    assert read.get_data() == sent.told


def test_while_a_secret_is_exchanged_both_are_valid(receiver: EventReceiver) -> None:
    deliver(receiver, secret=[OTHER_SECRET, SECRET])
    [sent] = receiver.sent
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(sent.body, dict(sent.headers))["type"] == "job.completed"
    deliver(receiver, secret=OTHER_SECRET)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(receiver.sent[1].body, dict(receiver.sent[1].headers))


def test_what_is_told_is_thin_and_has_nothing_that_was_seen_or_read(receiver: EventReceiver) -> None:
    deliver(receiver)
    told = receiver.sent[0].told["data"]
    assert told["job_id"] == JOB.job_id
    assert (told["status"], told["source_name"], told["frames_processed"]) == ("completed", "Grüße 100 %.mp4", 100)
    assert {"summary", "claim", "input_path", "output_path"} & set(told) == set()
    assert len(receiver.sent[0].body) < 2000


def test_an_event_has_the_same_id_whenever_it_is_made_and_another_for_each_end() -> None:
    assert Event.of_job(JOB).event_id == Event.of_job(JOB).event_id
    again = Job(**{**vars(JOB), "finished_at": "2027-01-16T12:00:00.000000+00:00"})
    assert len({Event.of_job(JOB).event_id, Event.of_job(again).event_id, Event.of_job(FAILED).event_id}) == 3
    assert Event.of_rejected(REJECTED).event_id == Event.of_rejected(REJECTED).event_id
    assert Event.from_row("evt_1", Event.of_job(JOB).to_row(["a"])).body() == Event.of_job(JOB).body()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_status_of_2xx_says_that_the_event_is_there(receiver: EventReceiver, status: int) -> None:
    receiver.answer = lambda sent: (status, {})
    assert deliver(receiver) == Delivery(DeliveryEnd.DONE)


@pytest.mark.parametrize("status", [400, 401, 404, 408, 500, 502, 503])
def test_any_other_status_has_it_sent_again(receiver: EventReceiver, status: int) -> None:
    receiver.answer = lambda sent: (status, {})
    assert deliver(receiver) == Delivery(DeliveryEnd.AGAIN, f"It answered {status}.")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: EventReceiver, status: int) -> None:
    receiver.answer = lambda sent: (status, {"location": f"{receiver.url}/elsewhere"})
    assert deliver(receiver) == Delivery(DeliveryEnd.AGAIN, f"It answered {status}, a redirect, which is not followed.")
    assert [sent.path for sent in receiver.sent] == ["/hook"]


def test_410_says_that_no_more_events_are_wanted(receiver: EventReceiver) -> None:
    receiver.answer = lambda sent: (410, {})
    assert deliver(receiver).end is DeliveryEnd.GONE


def test_429_says_when_to_come_again(receiver: EventReceiver) -> None:
    receiver.answer = lambda sent: (429, {"Retry-After": "77"})
    assert deliver(receiver) == Delivery(DeliveryEnd.AGAIN, "It answered 429.", 77.0)


def test_the_time_to_come_again_is_seconds_or_a_date() -> None:
    noon = datetime(2027, 1, 15, 12, tzinfo=UTC)
    in_a_minute = format_datetime(noon + timedelta(seconds=60), usegmt=True)
    said = {"5": 5.0, in_a_minute: 60.0, "soon": None, "-5": None, "": None, "9" * 50: 1e9 - 1}
    for text, seconds in said.items():
        assert retry_after({"retry-after": text}, noon.timestamp()) == seconds
    assert retry_after({"retry-after": format_datetime(noon, usegmt=True)}, noon.timestamp() + 60) == 0.0
    assert retry_after({}, 0.0) is None


def test_a_receiver_that_hangs_is_let_go_in_time(receiver: EventReceiver) -> None:
    release = threading.Event()

    def hang(sent: Sent) -> tuple[int, dict[str, str]]:
        release.wait(20)
        return 200, {}

    receiver.answer = hang
    begun = time.monotonic()
    delivery = deliver(receiver, seconds=0.5)
    assert time.monotonic() - begun < 5
    assert delivery == Delivery(DeliveryEnd.AGAIN, "It did not answer within 0.5 s.")
    release.set()


def test_the_time_for_a_request_is_15_seconds(receiver: EventReceiver) -> None:
    assert Endpoint(receiver.settings(), SOURCE)._post._seconds == 15


@contextmanager
def socket_server(*sends: bytes, pause: float = 0.0, times: int = 1) -> Iterator[int]:
    """Run a server that says certain bytes, one after the other, whatever it is asked."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                for _ in range(times):
                    for each in sends:
                        connection.sendall(each)
                        time.sleep(pause)
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        with socket.socket() as last:  # so that a server that nobody has asked ends, too
            last.connect_ex(listening.getsockname())
        listening.close()
        thread.join()


def deliver_to(url: str, receiver: EventReceiver, seconds: float = 15.0) -> Delivery:
    return deliver(receiver, seconds=seconds, url=url)


def test_a_receiver_that_answers_byte_by_byte_for_ever_is_let_go_in_time(receiver: EventReceiver) -> None:
    with socket_server(b"H", pause=0.05, times=200) as port:
        begun = time.monotonic()
        assert "did not answer" in deliver_to(f"http://127.0.0.1:{port}/", receiver, 0.5).problem
        assert time.monotonic() - begun < 5


def test_a_receiver_whose_headers_never_end_is_let_go_and_not_taken_for_well(receiver: EventReceiver) -> None:
    with socket_server(b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n"] * 90, pause=0.05) as port:
        assert "did not answer" in deliver_to(f"http://127.0.0.1:{port}/", receiver, 0.5).problem


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"H" * 70_000, b""])
def test_an_answer_that_is_not_one_has_it_sent_again(receiver: EventReceiver, said: bytes) -> None:
    with socket_server(said) as port:
        delivery = deliver_to(f"http://127.0.0.1:{port}/", receiver)
    assert delivery.end is DeliveryEnd.AGAIN
    assert delivery.problem


def test_a_body_without_end_is_not_read(receiver: EventReceiver) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket_server(head, *[b"9\r\n123456789\r\n"] * 50, pause=0.02) as port:
        begun = time.monotonic()
        assert deliver_to(f"http://127.0.0.1:{port}/", receiver).end is DeliveryEnd.DONE
        assert time.monotonic() - begun < 0.4


def test_nobody_there_has_it_sent_again(receiver: EventReceiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert deliver_to(f"http://127.0.0.1:{port}/", receiver) == Delivery(
        DeliveryEnd.AGAIN, "It cannot be reached: Connection refused."
    )


def test_a_request_ends_when_dropframe_does(receiver: EventReceiver) -> None:
    release = threading.Event()
    asked = threading.Event()

    def hang(sent: Sent) -> tuple[int, dict[str, str]]:
        asked.set()
        release.wait(20)
        return 200, {}

    receiver.answer = hang
    endpoint = Endpoint(receiver.settings(), SOURCE, seconds=20)
    found: list[Delivery] = []
    thread = threading.Thread(target=lambda: found.append(endpoint.deliver(Event.of_job(JOB))))
    thread.start()
    assert asked.wait(10)
    begun = time.monotonic()
    endpoint.abort()
    thread.join()
    assert time.monotonic() - begun < 5
    assert found == [Delivery(DeliveryEnd.AGAIN, "Dropframe is stopping.")]
    release.set()


def test_proxies_in_the_environment_are_not_asked(receiver: EventReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert deliver(receiver).end is DeliveryEnd.DONE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody but itself vouches for, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=DNS:localhost"
    paths = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run([*command.split(), *paths], check=True, capture_output=True)
    (folder / "both").write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return folder / "both"


@pytest.mark.needs("openssl")
def test_over_https_the_certificate_has_to_be_valid(
    receiver: EventReceiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    here = f"https://localhost:{receiver.port}/hook"
    assert "certificate is not valid" in deliver_to(here, receiver).problem
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert deliver_to(here, receiver) == Delivery(DeliveryEnd.DONE)
    assert "certificate is not valid" in deliver_to(here.replace("localhost", "127.0.0.1"), receiver).problem
    assert [sent.headers["host"] for sent in receiver.sent] == [f"localhost:{receiver.port}"]


def test_a_receiver_that_does_not_speak_tls_is_named(receiver: EventReceiver) -> None:
    assert "TLS could not be agreed on" in deliver_to(f"https://127.0.0.1:{receiver.port}/", receiver).problem
