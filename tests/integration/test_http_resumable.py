"""Uploads in pieces (tus): cut, killed, raced and resumed, they become one job with the very bytes, or nothing."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import booleans, data, integers, sampled_from

from daemon.ipc import spool
from daemon.ipc.partial_uploads import FOLDER, PartialUploads
from daemon.service import SWEEP_SECONDS
from daemon.tokens import Rights, new_token
from tests.clips import make_clip
from tests.sidecar_process import Sidecar, running_sidecar
from tests.system.running import running, wait_for

TUS = {"tus-resumable": "1.0.0"}
PIECE = {**TUS, "content-type": "application/offset+octet-stream"}


def encoded(**values: str) -> str:
    """Return an Upload-Metadata header."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def begin(client: httpx.Client, length: int, **values: str) -> str:
    """Begin an upload and return its address."""
    made = client.post(
        "/v1/uploads", headers={**TUS, "upload-length": str(length), "upload-metadata": encoded(**values)}
    )
    assert made.status_code == 201, made.text
    return made.headers["location"]


def offset(client: httpx.Client, address: str) -> int:
    """Ask how much has come."""
    answer = client.head(address, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def add(client: httpx.Client, address: str, at: int, piece: bytes) -> httpx.Response:
    """Send a piece."""
    return client.patch(address, headers={**PIECE, "upload-offset": str(at)}, content=piece)


def send_and_cut(sidecar: Sidecar, address: str, at: int, length: int, piece: bytes) -> None:
    """Announce so many bytes, send fewer and close the line."""
    head = f"PATCH {address} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {at}\r\n"
    head += f"Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n\r\n"
    with sidecar.connect() as connection:
        connection.sendall(head.encode() + piece)


def metric(client: httpx.Client, sample: str) -> int:
    """Return the sum of the samples that a pattern fits."""
    return int(sum(map(float, re.findall(rf"^dropframe_{sample} (\S+)", client.get("/metrics").text, re.MULTILINE))))


def received_bytes(client: httpx.Client) -> int:
    return metric(client, "upload_bytes_total")


def ended_patches(client: httpx.Client) -> int:
    return metric(client, r'http_requests_total\{method="PATCH".*\}')


@contextlib.contextmanager
def hanging_piece(
    sidecar: Sidecar, client: httpx.Client, address: str, at: int, length: int, piece: bytes
) -> Iterator[None]:
    """Send fewer bytes than announced, and leave the line open once they have come."""
    wanted = received_bytes(client) + len(piece)
    head = f"PATCH {address} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {at}\r\n"
    head += f"Content-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n\r\n"
    with sidecar.connect() as connection:
        connection.sendall(head.encode() + piece)
        while received_bytes(client) < wanted or "dropframe_uploads_active 1" not in client.get("/metrics").text:
            time.sleep(0.01)
        yield


def pending(sidecar: Sidecar) -> list[spool.Ticket]:
    return spool.pending_submissions(sidecar.spool)


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    return make_clip(tmp_path / "clip.mp4", frames=30, size=(640, 480)).read_bytes()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    with running_sidecar(tmp_path / "home", upload_stall_seconds=5) as running:
        yield running


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sidecar.url, timeout=30) as made:
        yield made


def test_pieces_become_one_job_with_what_was_asked_for(sidecar: Sidecar, client: httpx.Client, video: bytes) -> None:
    address = begin(client, len(video), filename="my film.mp4", filetype="video/mp4", frame_stride="5")
    assert offset(client, address) == 0
    assert pending(sidecar) == []
    for at in range(0, len(video), 10_000):
        answer = add(client, address, at, video[at : at + 10_000])
        assert answer.status_code == 204, answer.text
        assert int(answer.headers["upload-offset"]) == min(at + 10_000, len(video))
    [ticket] = pending(sidecar)
    assert (ticket.source_name, ticket.options["frame_stride"]) == ("my film.mp4", 5)
    assert (sidecar.spool / ticket.video_name).read_bytes() == video
    assert address.endswith(ticket.job_id)
    assert client.get(f"/v1/jobs/{ticket.job_id}").json()["status"] == "pending"
    assert offset(client, address) == len(video)  # a client whose last answer was lost asks this
    assert client.delete(address, headers=TUS).status_code == 409
    assert os.listdir(sidecar.spool / FOLDER) == []
    assert 'dropframe_uploads_total{outcome="accepted"} 1.0' in client.get("/metrics").text


def test_the_first_piece_may_come_with_the_creation(sidecar: Sidecar, client: httpx.Client, video: bytes) -> None:
    made = client.post("/v1/uploads", headers={**PIECE, "upload-length": str(len(video))}, content=video[:5000])
    assert (made.status_code, made.headers["upload-offset"]) == (201, "5000")
    assert add(client, made.headers["location"], 5000, video[5000:]).status_code == 204
    made = client.post("/v1/uploads", headers={**PIECE, "upload-length": str(len(video))}, content=video)
    assert (made.status_code, made.headers["upload-offset"]) == (201, str(len(video)))
    assert [(sidecar.spool / ticket.video_name).read_bytes() for ticket in pending(sidecar)] == [video, video]


def test_it_says_what_it_speaks(client: httpx.Client) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,creation-with-upload,termination,expiration"
    refused = client.post("/v1/uploads", headers={"upload-length": "5", "tus-resumable": "0.2.2"})
    assert (refused.status_code, refused.headers["tus-version"]) == (412, "1.0.0")


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({}, 422, "Send upload-length as a whole number"),
        ({"upload-length": "-1"}, 422, "upload-length"),
        ({"upload-length": "5", "upload-concat": "partial"}, 422, "a video is sent in one upload"),
        ({"upload-concat": "final;/v1/uploads/a /v1/uploads/b"}, 422, "a video is sent in one upload"),
        ({"upload-length": str(10**18 - 1)}, 413, "Videos of up to"),
        ({"upload-length": str(90 * 10**9)}, 507, "min_free_bytes"),
        ({"upload-length": "5", "upload-metadata": "filename ***"}, 422, "Base64"),
        (
            {"upload-length": "5", "upload-metadata": ",".join([encoded(frame_stride="1"), encoded(frame_stride="5")])},
            422,
            "It names frame_stride twice",
        ),
        ({"upload-length": "5", "upload-metadata": encoded(stride="5")}, 422, "did you mean frame_stride?"),
        ({"upload-length": "5", "upload-metadata": encoded(frame_stride="0")}, 422, "whole number of 1 or more"),
        ({"upload-length": "5", "upload-metadata": encoded(pipeline_id="yollo")}, 404, "did you mean yolo?"),
        ({"upload-length": "5", "upload-metadata": encoded(filename="../../etc")}, 422, "'..'"),
    ],
)
def test_what_cannot_be_taken_is_refused_before_a_byte_is_kept(
    sidecar: Sidecar, client: httpx.Client, headers: dict[str, str], status: int, words: str
) -> None:
    refused = client.post("/v1/uploads", headers={**TUS, **headers})
    assert refused.status_code == status, refused.text
    assert words in refused.json()["detail"]
    assert refused.headers["tus-resumable"] == "1.0.0"
    assert not (sidecar.spool / FOLDER).exists()


def test_what_is_not_a_video_is_refused_by_its_first_bytes_and_nothing_of_it_is_left(
    sidecar: Sidecar, client: httpx.Client
) -> None:
    address = begin(client, 1000)
    assert add(client, address, 0, b"PK\x03\x04").status_code == 204  # too few to tell
    refused = add(client, address, 4, bytes(996))
    assert (refused.status_code, refused.json()["detail"].partition(".")[0]) == (400, "It is a ZIP archive, not an MP4")
    assert client.head(address, headers=TUS).status_code == 404
    assert os.listdir(sidecar.spool / FOLDER) == []
    assert 'dropframe_uploads_total{outcome="refused"} 1.0' in client.get("/metrics").text


def test_bytes_of_which_nobody_can_tell_what_they_are_are_not_kept_when_the_line_is_lost(
    sidecar: Sidecar, client: httpx.Client, video: bytes
) -> None:
    address = begin(client, len(video))
    with hanging_piece(sidecar, client, address, 0, len(video), video[:400]):
        assert offset(client, address) == 0  # ends what hangs
    with hanging_piece(sidecar, client, address, 0, len(video), video[:2000]):
        assert offset(client, address) == 2000
    assert add(client, address, 2000, video[2000:]).status_code == 204


@pytest.mark.parametrize("rights", [None, Rights.READ])
def test_who_may_not_submit_leaves_nothing(tmp_path: Path, video: bytes, rights: Rights | None) -> None:
    owner, owner_token = new_token("owner", Rights.SUBMIT)
    other, other_token = new_token("other", Rights.READ)
    sent = {} if rights is None else {"authorization": f"Bearer {other}"}
    with (
        running_sidecar(tmp_path / "home", tokens=[str(owner_token), str(other_token)]) as sidecar,
        httpx.Client(base_url=sidecar.url, headers=sent, timeout=30) as client,
        httpx.Client(base_url=sidecar.url, headers={"authorization": f"Bearer {owner}"}, timeout=30) as owning,
    ):
        status = 401 if rights is None else 403
        headers = {**PIECE, "upload-length": str(len(video))}
        assert client.post("/v1/uploads", headers=headers, content=video).status_code == status
        assert not (sidecar.spool / FOLDER).exists()
        address = begin(owning, len(video))
        refused = [
            client.request(method, address, headers={**PIECE, "upload-offset": "0"}, content=video[:5000])
            for method in ("PATCH", "DELETE", "POST")
        ]
        assert [answer.status_code for answer in refused] == [status] * 3
        assert offset(owning, address) == 0


def test_a_piece_must_go_on_where_the_upload_ends(client: httpx.Client, video: bytes) -> None:
    address = begin(client, len(video))
    assert add(client, address, 0, video[:100]).status_code == 204
    for at in (0, 99, 101):
        refused = add(client, address, at, video[at : at + 10])
        assert (refused.status_code, refused.headers["upload-offset"]) == (409, "100")
    assert add(client, address, 100, video[100:] + b"more").status_code == 413
    assert client.patch(address, headers={**TUS, "upload-offset": "100"}, content=b"x").status_code == 415
    assert offset(client, address) == 100


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("method", ["HEAD", "PATCH"])
def test_an_upload_that_was_cut_off_before_its_ticket_becomes_a_job_when_its_client_asks(
    sidecar: Sidecar, client: httpx.Client, video: bytes, renamed: bool, method: str
) -> None:
    address = begin(client, len(video))
    part = sidecar.spool / FOLDER / f"{address.rpartition('/')[2]}.part"
    part.write_bytes(video)  # as where the ticket could not be written, or its request was ended just then
    if renamed:
        part.rename(sidecar.spool / f"{part.stem}.mp4")
    answer = client.request(method, address, headers={**PIECE, "upload-offset": str(len(video))})
    assert (answer.is_success, answer.headers["upload-offset"]) == (True, str(len(video)))
    [ticket] = pending(sidecar)
    assert (sidecar.spool / ticket.video_name).read_bytes() == video
    assert os.listdir(sidecar.spool / FOLDER) == []


def test_a_piece_from_behind_the_end_is_told_where_the_upload_ends(client: httpx.Client, video: bytes) -> None:
    address = begin(client, len(video))
    refused = add(client, address, len(video) + 5, b"more")
    assert (refused.status_code, refused.headers["upload-offset"]) == (409, "0")


def test_an_upload_that_is_given_up_leaves_nothing(sidecar: Sidecar, client: httpx.Client, video: bytes) -> None:
    address = begin(client, len(video))
    add(client, address, 0, video[:1000])
    assert client.delete(address, headers=TUS).status_code == 204
    assert os.listdir(sidecar.spool / FOLDER) == []
    for method in ("HEAD", "PATCH", "DELETE"):
        headers = {**PIECE, "upload-offset": "0"}
        assert client.request(method, address, headers=headers).status_code == 404


def test_an_upload_to_which_nothing_comes_any_more_expires(
    sidecar: Sidecar, client: httpx.Client, video: bytes
) -> None:
    old, young = begin(client, len(video)), begin(client, len(video))
    add(client, old, 0, video[:1000])
    uploads, now = PartialUploads(sidecar.spool), time.time()
    for path in (sidecar.spool / FOLDER).glob(old.rpartition("/")[2] + "*"):
        os.utime(path, (now - 50, now - 50))
    assert uploads.sweep(now, keep_seconds=60) == 0
    assert uploads.sweep(now + 59, keep_seconds=60) == 0  # the change of its times is young
    assert uploads.sweep(now + 65, keep_seconds=60) == 4
    assert os.listdir(sidecar.spool / FOLDER) == []
    assert client.head(young, headers=TUS).status_code == 404


@pytest.mark.slow
def test_the_daemon_leaves_nothing_of_what_has_expired(tmp_path: Path, video: bytes) -> None:
    home = tmp_path / "home"
    with (
        running_sidecar(home, upload_keep_hours=0.0001) as sidecar,
        httpx.Client(base_url=sidecar.url, timeout=30) as client,
    ):
        begun, untouched = begin(client, len(video)), begin(client, len(video))
        add(client, begun, 0, video[:5000])
        with running(home, ready=False, DROPFRAME_UPLOAD_KEEP_HOURS="0.0001", DROPFRAME_DEVICE="cpu") as daemon:
            wait_for(lambda: os.listdir(sidecar.spool / FOLDER) == [], 2 * SWEEP_SECONDS + 30, daemon.log)
            assert daemon.jobs() == []
            daemon.wait_ready()
        assert [client.head(address, headers=TUS).status_code for address in (begun, untouched)] == [404, 404]
        assert sidecar.left_in_spool() == []


def test_a_later_request_takes_over_from_one_whose_line_hangs(
    sidecar: Sidecar, client: httpx.Client, video: bytes
) -> None:
    address = begin(client, len(video))
    with hanging_piece(sidecar, client, address, 0, len(video), video[:7000]):
        at = offset(client, address)  # ends what hangs, and keeps what has come
        assert 0 <= at <= 7000
        assert add(client, address, at, video[at:]).status_code == 204
    [ticket] = pending(sidecar)
    assert (sidecar.spool / ticket.video_name).read_bytes() == video


def test_a_creation_that_is_not_answered_with_an_address_leaves_nothing(tmp_path: Path, video: bytes) -> None:
    headers = {**PIECE, "upload-length": str(len(video))}
    with (
        running_sidecar(tmp_path / "home", max_uploads_per_client=1) as sidecar,
        httpx.Client(base_url=sidecar.url, timeout=30) as client,
    ):
        hangs = begin(client, len(video))
        with hanging_piece(sidecar, client, hangs, 0, len(video), video[:1000]):
            assert client.post("/v1/uploads", headers=headers, content=video[:1000]).status_code == 429
            assert len(PartialUploads(sidecar.spool).ids()) == 1
        assert client.delete(hangs, headers=TUS).status_code == 204
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with sidecar.connect() as connection:
            sent = (
                f"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(video)}\r\n{head}\r\n".encode()
            )
            connection.sendall(sent + video[:5000])
            wait_for(lambda: PartialUploads(sidecar.spool).ids(), 10)
        wait_for(lambda: not os.listdir(sidecar.spool / FOLDER), 10)


def test_only_so_many_may_be_begun_and_not_finished(tmp_path: Path, video: bytes) -> None:
    with (
        running_sidecar(tmp_path / "home", max_queue=2) as sidecar,
        httpx.Client(base_url=sidecar.url, timeout=30) as client,
    ):
        first, _ = begin(client, len(video)), begin(client, len(video))
        refused = client.post("/v1/uploads", headers={**TUS, "upload-length": str(len(video))})
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (503, "queue-full")
        assert add(client, first, 0, video).status_code == 204
        assert begin(client, len(video))


def test_however_many_begin_at_once_no_more_are_begun_than_may_be(tmp_path: Path, video: bytes) -> None:
    headers, answers = {**TUS, "upload-length": str(len(video))}, []
    with running_sidecar(tmp_path / "home", max_queue=3) as sidecar:
        clients = [
            threading.Thread(target=lambda: answers.append(httpx.post(f"{sidecar.url}/v1/uploads", headers=headers)))
            for _ in range(16)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert Counter(answer.status_code for answer in answers) == {201: 3, 503: 13}
        assert len(PartialUploads(sidecar.spool).ids()) == 3


def test_pieces_of_one_client_count_as_its_uploads_and_hold_nobody_else_up(tmp_path: Path, video: bytes) -> None:
    with (
        running_sidecar(tmp_path / "home", max_uploads_per_client=1) as sidecar,
        httpx.Client(base_url=sidecar.url, timeout=30) as client,
    ):
        hangs, other = begin(client, len(video)), begin(client, len(video))
        with hanging_piece(sidecar, client, hangs, 0, len(video), video[:1000]):
            assert add(client, other, 0, video).status_code == 429
            at = offset(client, hangs)  # what goes on with an upload counts once, not beside what it ends
            assert add(client, hangs, at, video[at:]).status_code == 204
        assert add(client, other, 0, video).status_code == 204


@pytest.mark.slow
def test_kills_and_cuts_at_any_moment_leave_one_job_with_the_very_bytes(tmp_path: Path) -> None:
    video = make_clip(tmp_path / "clip.mp4", frames=8, size=(320, 240)).read_bytes()
    video += (
        (len(random.Random(5).randbytes(30_000_000)) + 8).to_bytes(4, "big")
        + b"free"
        + random.Random(5).randbytes(30_000_000)
    )
    home, chance = tmp_path / "home", random.Random(11)
    address, tries = "", 0
    while True:
        tries += 1
        with running_sidecar(home) as sidecar, httpx.Client(base_url=sidecar.url, timeout=30) as client:
            if not address:
                address = begin(client, len(video), filename="large.mp4")
            answer = client.head(address, headers=TUS)
            assert answer.status_code == 200, answer.status_code
            at = int(answer.headers["upload-offset"])
            if at == len(video):
                break
            if tries < 7:  # killed while it receives, then while the line is cut
                timer = threading.Timer(chance.uniform(0, 0.05), sidecar.process.send_signal, [signal.SIGKILL])
                timer.start()
                with contextlib.suppress(OSError):
                    send_and_cut(sidecar, address, at, len(video) - at, video[at : at + chance.randrange(1, 6_000_000)])
                timer.join()
                sidecar.process.wait(10)
            else:
                add(client, address, at, video[at:])
    [ticket] = spool.pending_submissions(home / "data" / "spool")
    stored = (home / "data" / "spool" / ticket.video_name).read_bytes()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(video).digest()


def test_what_a_kill_left_whole_is_submitted_at_the_next_start(tmp_path: Path, video: bytes) -> None:
    home = tmp_path / "home"
    with running_sidecar(home) as sidecar, httpx.Client(base_url=sidecar.url) as client:
        addresses = [begin(client, len(video), filename=f"{name}.mp4") for name in "abc"]
        wrong = [begin(client, len(video), filename=f"wrong-{number}.mp4") for number in range(3)]
    folder, ids = home / "data" / "spool" / FOLDER, [address.rpartition("/")[2] for address in addresses]
    for job_id in ids:
        (folder / f"{job_id}.part").write_bytes(video)  # killed before it was moved
    (folder / f"{ids[1]}.part").rename(folder.parent / f"{ids[1]}.mp4")  # killed before the ticket
    upload = PartialUploads(folder.parent).find(ids[2])
    assert upload is not None
    spool.promise(folder.parent, upload.to_ticket(), folder / f"{ids[2]}.part")  # killed before the record went
    (folder / f"{wrong[0].rpartition('/')[2]}.json").write_bytes(b"\0")  # a disk that lost power
    (folder / f"{wrong[1].rpartition('/')[2]}.part").unlink()  # the daemon has taken it already
    (folder / f"{wrong[2].rpartition('/')[2]}.part").write_bytes(bytes(len(video)))  # not a video, as is seen now
    with running_sidecar(home) as sidecar, httpx.Client(base_url=sidecar.url) as client:
        assert [offset(client, address) for address in addresses] == [len(video)] * 3
        assert sorted(ticket.source_name for ticket in pending(sidecar)) == ["a.mp4", "b.mp4", "c.mp4"]
        assert {name[:36] for name in os.listdir(folder)} == {wrong[0].rpartition("/")[2]}
        assert client.head(wrong[1], headers=TUS).status_code == 404  # as there is no daemon here


KEEP_SECONDS = 3600.0


class Uploading(RuleBasedStateMachine):
    """Clients that do everything in any order, beside a model of what the server must hold."""

    sidecar: Sidecar
    client: httpx.Client
    video: bytes
    steps = 0
    """Of all examples."""

    @initialize()
    def start(self) -> None:
        self.open: dict[str, int] = {}
        """The offset by address."""
        self.jobs: list[str] = []
        self.gone: list[str] = []
        """Given up or expired."""

    # What is drawn must not depend on when things happen: whatever a race has left, go_on makes it the same.

    def choose(self, choice: Any, addresses: Iterable[str]) -> str:
        type(self).steps += 1
        return str(choice.draw(sampled_from(list(addresses))))

    def go_on(self, address: str, to: int) -> int:
        """Go on as a client does that does not know how much has come; the state that follows is always the same.

        Returns:
            How many pieces were sent.
        """
        at, sent, refused = offset(self.client, address), 0, True
        assert self.open[address] <= at <= to
        while at < to and refused:
            answer, before = add(self.client, address, at, self.video[at:to]), at
            sent, refused = sent + 1, answer.status_code != 204
            if refused:
                at = offset(self.client, address)
                # Of a request whose line is cut the server may learn only now: it came later, or has brought more.
                assert answer.status_code == 409
                assert answer.json()["type"].endswith("upload-superseded") or at > before, answer.text
        self.came_to(address, to)
        return sent

    def came_to(self, address: str, at: int) -> None:
        self.open[address] = at
        if at == len(self.video):
            del self.open[address]
            self.jobs.append(address)

    @rule(first=integers(0, 3000))
    def create(self, first: int) -> None:
        """Begin an upload, mostly with its first piece in the same request."""
        type(self).steps += 1
        headers = {**(PIECE if first else TUS), "upload-length": str(len(self.video))}
        made = self.client.post("/v1/uploads", headers=headers, content=self.video[:first])
        assert made.status_code == 201, made.text
        at = min(first, len(self.video))
        assert int(made.headers["upload-offset"]) == at
        self.came_to(made.headers["location"], at)

    @precondition(lambda self: self.open)
    @rule(choice=data(), size=integers(0, 3000), override=booleans())
    def patch(self, choice: Any, size: int, override: bool) -> None:
        address = self.choose(choice, self.open)
        at = self.open[address]
        headers = {**PIECE, "upload-offset": str(at), **({"x-http-method-override": "PATCH"} if override else {})}
        method = "POST" if override else "PATCH"
        answer = self.client.request(method, address, headers=headers, content=self.video[at : at + size])
        assert answer.status_code == 204, answer.text
        at = min(at + size, len(self.video))
        assert int(answer.headers["upload-offset"]) == at
        self.came_to(address, at)

    @precondition(lambda self: self.open)
    @rule(choice=data(), wrong=integers(0, 4000))
    def patch_at_the_wrong_place(self, choice: Any, wrong: int) -> None:
        address = self.choose(choice, self.open)
        if wrong != self.open[address]:
            refused = add(self.client, address, wrong, self.video[:5])
            # Whoever is behind the end, or too long for the place that they name, learns that; nothing of it is kept.
            assert refused.status_code == (413 if len(self.video) - 5 < wrong <= len(self.video) else 409)

    @precondition(lambda self: self.open)
    @rule(choice=data(), size=integers(0, 3000))
    def cut(self, choice: Any, size: int) -> None:
        address = self.choose(choice, self.open)
        at = self.open[address]
        piece, ended = self.video[at : min(at + size, len(self.video) - 1)], ended_patches(self.client)
        send_and_cut(self.sidecar, address, at, len(self.video) - at, piece)
        sent = self.go_on(address, at + len(piece))
        wait_for(lambda: ended_patches(self.client) > ended + sent)  # the server may learn of the cut one only now

    @precondition(lambda self: self.open)
    @rule(choice=data())
    def ask(self, choice: Any) -> None:
        address = self.choose(choice, self.open)
        answer = self.client.head(address, headers=TUS)
        assert int(answer.headers["upload-offset"]) == self.open[address]
        assert int(answer.headers["upload-length"]) == len(self.video)
        assert parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() > time.time()

    @precondition(lambda self: self.open)
    @rule(choice=data())
    def delete(self, choice: Any) -> None:
        address = self.choose(choice, self.open)
        assert self.client.delete(address, headers=TUS).status_code == 204
        del self.open[address]
        self.gone.append(address)

    @precondition(lambda self: self.open)
    @rule(choice=data(), one_is_written=booleans())
    def expire(self, choice: Any, one_is_written: bool) -> None:
        """Time passes; what somebody is adding to stays."""
        address = self.choose(choice, self.open)
        at = self.open[address]
        piece = self.video[at : min(at + 1500, len(self.video) - 1)]
        uploads, now = PartialUploads(self.sidecar.spool), time.time() + KEEP_SECONDS + 60
        one_is_written &= bool(piece)  # that a byte has come is how one sees that it is held
        kept = [address] if one_is_written else []
        writing = hanging_piece(self.sidecar, self.client, address, at, len(self.video) - at, piece)
        with writing if one_is_written else contextlib.nullcontext():
            uploads.sweep(now, KEEP_SECONDS)
            deadline = time.monotonic() + 10
            while len(uploads.ids()) > len(kept):  # a request that was cut off may hold one for a moment
                assert time.monotonic() < deadline
                uploads.sweep(now, KEEP_SECONDS)
            if one_is_written:
                self.go_on(address, at + len(piece))
        self.gone += [other for other in self.open if other not in kept]
        self.open = {other: self.open[other] for other in kept}

    @precondition(lambda self: self.gone)
    @rule(choice=data())
    def use_what_is_gone(self, choice: Any) -> None:
        address = self.choose(choice, self.gone)
        assert self.client.head(address, headers=TUS).status_code == 404
        assert add(self.client, address, 0, self.video[:10]).status_code == 404
        assert self.client.delete(address, headers=TUS).status_code == 404

    @precondition(lambda self: self.jobs)
    @rule(choice=data(), at=integers(0, 3000))
    def use_what_is_a_job(self, choice: Any, at: int) -> None:
        address = self.choose(choice, self.jobs)
        assert offset(self.client, address) == len(self.video)
        if at != len(self.video):
            refused = add(self.client, address, at, self.video[at:])
            assert (refused.status_code, refused.headers["upload-offset"]) == (409, str(len(self.video)))
        asked = add(self.client, address, len(self.video), b"")
        assert (asked.status_code, asked.headers["upload-offset"]) == (204, str(len(self.video)))
        assert add(self.client, address, len(self.video), b"more").status_code == 413
        assert self.client.delete(address, headers=TUS).status_code == 409

    @precondition(lambda self: self.open)
    @rule(choice=data(), size=integers(1, 3000))
    def two_writers(self, choice: Any, size: int) -> None:
        address = self.choose(choice, self.open)
        at = self.open[address]
        piece, answers = self.video[at : at + size], []
        writers = [
            threading.Thread(target=lambda: answers.append(add(self.client, address, at, piece).status_code))
            for _ in range(2)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert set(answers) <= {204, 409, 503}  # 503: the other one did not let go in time
        assert len(answers) == 2
        self.go_on(address, at + len(piece))

    @invariant()
    def the_server_holds_what_the_model_holds(self) -> None:
        spool_dir = self.sidecar.spool
        for address, at in getattr(self, "open", {}).items():
            assert (spool_dir / FOLDER / f"{address.rpartition('/')[2]}.part").read_bytes() == self.video[:at]
        for address in getattr(self, "jobs", ()):
            assert (spool_dir / f"{address.rpartition('/')[2]}.mp4").read_bytes() == self.video
        if (spool_dir / FOLDER).exists():
            ids = [address.rpartition("/")[2] for address in getattr(self, "open", ())]
            left = sorted(os.listdir(spool_dir / FOLDER))
            assert left == sorted(f"{job_id}.{kind}" for job_id in ids for kind in ("json", "part"))

    def teardown(self) -> None:
        """Each upload that was whole is one job, and nothing else is; then begin anew."""
        tickets = sorted(ticket.job_id for ticket in pending(self.sidecar))
        for path in self.sidecar.spool.glob("**/*"):
            if path.is_file():
                path.unlink()
        assert tickets == sorted(address.rpartition("/")[2] for address in getattr(self, "jobs", ()))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_clients_do_in_any_order_the_bytes_are_right(tmp_path: Path) -> None:
    """About 2,000 steps; UPLOAD_EXAMPLES makes it more or fewer."""
    Uploading.video = make_clip(tmp_path / "clip.mp4", frames=2, size=(64, 48)).read_bytes()
    with running_sidecar(tmp_path / "home") as sidecar, httpx.Client(base_url=sidecar.url, timeout=30) as client:
        Uploading.sidecar, Uploading.client, Uploading.steps = sidecar, client, 0
        checks = settings(
            max_examples=int(os.environ.get("UPLOAD_EXAMPLES", "70")),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Uploading, settings=checks)
    print(f"{Uploading.steps} steps")
