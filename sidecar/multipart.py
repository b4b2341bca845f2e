"""FormReader: a multipart/form-data body, read piece by piece as it arrives. The only file that knows the parser."""

from __future__ import annotations

import re

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sidecar.problems import Problem, bad_field
from sidecar.query import given_twice
from sidecar.submit_options import FIELDS

FILE_FIELD = "file"
MAX_PARTS = 100
MAX_FIELD_BYTES = 4096
"""Of a field that is kept."""
MAX_OTHER_BYTES = 1 << 20
"""Of everything that is not the file."""
_ESCAPED = re.compile("%(22|0D|0A)")
"""What the HTML standard has browsers escape in a file name, and nothing else."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names.

    Raises:
        Problem: 415 if it is not multipart/form-data, 400 if it names none.
    """
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data":
        raise Problem(
            415,
            "Send the video as multipart/form-data in the field file, or PUT it to /v1/video/submit/NAME.mp4.",
            headers={"accept-post": "multipart/form-data"},
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise Problem(400, "The Content-Type names no boundary of 1 to 70 characters.", "bad-form")
    return boundary


class FormReader:
    """Splits a form into its file and its fields.

    Args:
        boundary: That of the Content-Type.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        """The file's name as the client gave it, once its part has begun."""
        self.other_fields: list[str] = []
        """Names of fields whose values are not kept."""
        self.complete = False
        """Whether the last boundary was seen."""
        self._pieces: list[memoryview] = []
        self._parts = 0
        self._other_bytes = 0
        self._name: str | None = None
        self._value = bytearray()
        self._in_file = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[memoryview]:
        """Take the next bytes; return the file's bytes among them, which refer to ``data``.

        Raises:
            Problem: 400 for a malformed form, 422 for a wrong field.
        """
        self._pieces = []
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Problem(400, "The form is malformed: its parts do not fit its boundary.", "bad-form") from error
        return self._pieces

    def given(self) -> dict[str, str]:
        """Return the fields that were filled in, and those that are not known."""
        filled = {name: value for name, value in self.fields.items() if value.strip()}
        return filled | dict.fromkeys(self.other_fields, "")

    def check_complete(self) -> None:
        """Raise a Problem unless the form has ended as it should, with a file in it."""
        if not self.complete:
            raise Problem(400, "The form ends before its last boundary; send it again.", "bad-form")
        if self.file_name is None:
            raise bad_field(
                FILE_FIELD, "The form has no field named file; send the video in it (curl -F file=@video.mp4)."
            )

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Problem(400, f"The form has more than {MAX_PARTS} fields.", "bad-form")
        self._name, self._in_file, self._disposition = None, False, b""
        self._value.clear()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == FILE_FIELD:
            if self.file_name is not None:
                raise bad_field(FILE_FIELD, "One file is taken at a time; submit the others on their own.")
            if b"filename" not in options:
                raise bad_field(FILE_FIELD, "It is text, not a file; with curl, write -F file=@video.mp4.")
            self.file_name = _ESCAPED.sub(
                lambda found: chr(int(found[1], 16)), options[b"filename"].decode("utf-8", "surrogateescape")
            )
            self._in_file = True
        elif name in FIELDS:
            if name in self.fields:
                raise bad_field(name, given_twice(name))
            self._name = name
        else:
            self.other_fields.append(name)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(memoryview(data)[start:end])
            return
        self._count(end - start)
        if self._name is not None:
            if len(self._value) + end - start > MAX_FIELD_BYTES:
                raise bad_field(self._name, f"It has more than {MAX_FIELD_BYTES} bytes.")
            self._value += data[start:end]

    def _end_part(self) -> None:
        if self._name is not None:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.complete = True

    def _count(self, size: int) -> None:
        self._other_bytes += size
        if self._other_bytes > MAX_OTHER_BYTES:
            raise Problem(400, "The form has more than 1 MiB besides its file.", "bad-form")
