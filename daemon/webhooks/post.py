"""Post: one HTTP request to an address that was looked at before, within a time that holds for all of it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from daemon.webhooks.addresses import Resolve, Target, refusal, resolve

SECONDS = 15.0
"""Longest time of a request, from looking up the name to the head of the answer."""


class NotSent(Exception):
    """There is no answer; its text says why, in a sentence that names neither path nor secret."""


class _Connection(http.client.HTTPConnection):
    """A connection that is there already."""

    def __init__(self, host: str, port: int, sock: socket.socket) -> None:
        super().__init__(host, port)
        self.sock = sock
        self.auto_open = 0


class Post:
    """Sends bodies to one URL. Redirects and proxies are not followed; of the answer the head alone is read.

    Args:
        url: http or https.
        allow_private: Whether it may be on this machine or in a private network.
        seconds: Longest time of a request.
        resolve: Looks up names.
    """

    def __init__(self, url: str, allow_private: bool, seconds: float = SECONDS, resolve: Resolve = resolve) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._netloc = parts.hostname, parts.netloc
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._allow_private = allow_private
        self._seconds = seconds
        self._resolve = resolve
        self._sock: socket.socket | None = None
        self._aborted = self._late = False

    def send(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        """Return the status and the headers of the answer, their names in lower case.

        Raises:
            NotSent: there is none.
        """
        self._late = False
        deadline = time.monotonic() + self._seconds
        timer = threading.Timer(self._seconds, self._be_late)
        timer.daemon = True
        timer.start()
        try:
            return self._send(body, headers, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise NotSent(self._why(error)) from error
        finally:
            timer.cancel()
            timer.join()
            self._sock = None

    def abort(self) -> None:
        """End a request that is going on, and those to come."""
        self._aborted = True
        self._cut()

    def _be_late(self) -> None:
        self._late = True
        self._cut()

    def _cut(self) -> None:
        if (sock := self._sock) is not None:
            with contextlib.suppress(OSError):  # it is not connected yet, or not any more
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of TLS would let the other thread go on without

    def _send(self, body: bytes, headers: Mapping[str, str], deadline: float) -> tuple[int, Mapping[str, str]]:
        with contextlib.closing(self._connect(self._targets(), deadline)) as sock:
            connection = _Connection(self._host, self._port, sock)
            connection.request("POST", self._path, body, {"host": self._netloc, **headers, "connection": "close"})
            answer = connection.getresponse()
            with contextlib.closing(answer):
                if self._late or self._aborted:  # then its end may be our doing
                    raise TimeoutError
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}

    def _targets(self) -> list[Target]:
        """Return the addresses that may be connected to."""
        found = self._resolve(self._host, self._port)
        reasons = [refusal(target.sockaddr[0], self._allow_private) for target in found]
        allowed = [target for target, reason in zip(found, reasons, strict=True) if reason is None]
        if not allowed:
            where = f"{self._host} is {found[0].sockaddr[0]}, {reasons[0]}" if found else f"{self._host} is nowhere"
            raise NotSent(f"{where}.")
        return allowed

    def _connect(self, targets: list[Target], deadline: float) -> socket.socket:
        """Return a connection to the first address that answers."""
        for number, (family, sockaddr) in enumerate(targets, 1):
            sock = self._sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                left = deadline - time.monotonic()
                if self._aborted or left <= 0:
                    raise TimeoutError
                sock.settimeout(left / (len(targets) - number + 1))  # so that each of them gets its turn
                sock.connect(sockaddr)
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                if self._tls is not None:
                    wrap = self._tls.wrap_socket
                    self._sock = sock = wrap(sock, server_hostname=self._host, do_handshake_on_connect=False)
                    sock.do_handshake()
                return sock
            except BaseException as error:
                sock.close()
                if number == len(targets) or not isinstance(error, OSError):
                    raise
        raise AssertionError("there is a target")

    def _why(self, error: Exception) -> str:
        if self._aborted:
            return "Dropframe is stopping."
        if self._late or isinstance(error, TimeoutError):
            return f"It did not answer within {self._seconds:g} s."
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"Its certificate is not valid: {error.verify_message}."
        if isinstance(error, ssl.SSLError):
            return f"TLS could not be agreed on: {error.reason or 'the connection was closed'}."
        if isinstance(error, socket.gaierror):
            return f"{self._host} cannot be looked up: {error.strerror}."
        if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            return "Its answer is not HTTP."
        return f"It cannot be reached: {getattr(error, 'strerror', None) or 'the connection was closed'}."
