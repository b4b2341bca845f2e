"""What object storage answers, as errors of ours whose sentences repeat no credentials.

What a service answers to a wrong key may name the key and what was to be signed, so nothing of it is passed on but its
error code and the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.errors import ObjectChanged, ObjectMissing, ObjectRefused, ObjectStoreError
from daemon.s3_address import S3Address

MOST_KEY_BYTES = 1024
NO_CREDENTIALS = "169.254.169.254"
"""Where an EC2 machine gets its credentials; asked last, so an error there means that there are none."""
OF_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_INVALID_KEY = re.compile(r'Path "([^"\n]*)')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@contextmanager
def told(address: S3Address, key: str) -> Iterator[None]:
    """Turn the errors of obstore into ours.

    Args:
        address: What is asked.
        key: The object below it, or a folder; may be empty.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise error_of(address, key, 404, str(error)) from None
    except Exception as error:
        name = type(error).__name__
        if not type(error).__module__.startswith("obstore"):
            raise
        if name == "InvalidPathError":
            raise _invalid_key(address, key, str(error)) from None
        status = _STATUS.search(str(error))
        raise error_of(address, key, int(status[1]) if status else None, str(error)) from None


def error_of(address: S3Address, key: str, status: int | None, text: str) -> ObjectStoreError:
    """Return what an answer means.

    Args:
        address: What was asked.
        key: The object below it; may be empty.
        status: Of HTTP; None if there was no answer.
        text: What was said, of which nothing but a code gets out.
    """
    found = _CODE.search(text)
    code = found[1] if found else ""
    where, said = address.to(key) if key else str(address), f" ({code})" if code else ""
    if status is None and NO_CREDENTIALS in text:
        return ObjectStoreError(
            f"There are no credentials for {address}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give them in "
            "another way of docs/object-storage.md."
        )
    if status is None:
        return ObjectStoreError(f"{address} does not answer, or not to the end; it is tried again.")
    if code == "NoSuchBucket":
        return ObjectStoreError(f"There is no bucket {address.bucket}.")
    if status == 401 or code in OF_CREDENTIALS:
        return ObjectStoreError(f"The credentials for {address} are refused{said}; renew or correct them.")
    return _of_status(address, where, status, said)


def _of_status(address: S3Address, where: str, status: int, said: str) -> ObjectStoreError:
    if status == 404:
        return ObjectMissing(f"There is no object {where}.")
    if status in (409, 412, 416):
        return ObjectChanged(f"{where} has been replaced{said}.")
    if status == 403:
        return ObjectRefused(f"Access to {where} is denied{said}; grant it to the credentials in use.")
    if status < 500 and status not in (408, 429):
        return ObjectRefused(f"{where} is refused with the status {status}{said}.")
    return ObjectStoreError(f"{address} is unavailable (status {status}{said}); it is tried again.")


def _invalid_key(address: S3Address, folder: str, text: str) -> ObjectRefused:
    named = _INVALID_KEY.search(text)
    return ObjectRefused(
        f"{address.to(folder)} holds an object that cannot be read, as a part of its key is empty, is . or .., or has "
        f"a control character: {named[1] if named else '?'!r}. Rename or delete it; the others in that folder wait "
        "until then."
    )


def key_problem(address: S3Address, key: str) -> str | None:
    """Say why nothing can have a key below an address; None if something can."""
    if len(f"{address.prefix}/{key}".encode()) > MOST_KEY_BYTES:
        return f"Its key would have more than {MOST_KEY_BYTES} bytes."
    if _CONTROL.search(key):
        return "Its name has control characters, which a key cannot have."
    return None
