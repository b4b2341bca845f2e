"""What a service says is passed on as its code alone."""

import pytest

from daemon.errors import ObjectChanged, ObjectMissing, ObjectRefused, ObjectStoreError
from daemon.objects.answers import error_of, key_problem, told
from daemon.s3_address import S3Address, known_address, known_endpoint

ADDRESS = S3Address("footage", "in")


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (None, "", ObjectStoreError, "s3://footage/in does not answer, or not to the end; it is tried again."),
        (404, "", ObjectMissing, "There is no object s3://footage/in/a.mp4."),
        (404, "NoSuchBucket", ObjectStoreError, "There is no bucket footage."),
        (412, "PreconditionFailed", ObjectChanged, "s3://footage/in/a.mp4 has been replaced (PreconditionFailed)."),
        (
            403,
            "SignatureDoesNotMatch",
            ObjectStoreError,
            "The credentials for s3://footage/in are refused (SignatureDoesNotMatch); renew or correct them.",
        ),
        (
            403,
            "AccessDenied",
            ObjectRefused,
            "Access to s3://footage/in/a.mp4 is denied (AccessDenied); grant it to the credentials in use.",
        ),
        (
            400,
            "EntityTooLarge",
            ObjectRefused,
            "s3://footage/in/a.mp4 is refused with the status 400 (EntityTooLarge).",
        ),
        (500, "", ObjectStoreError, "s3://footage/in is unavailable (status 500); it is tried again."),
        (429, "", ObjectStoreError, "s3://footage/in is unavailable (status 429); it is tried again."),
    ],
)
def test_an_answer_becomes_a_sentence_that_repeats_no_credentials(
    status: int | None, code: str, kind: type[ObjectStoreError], said: str
) -> None:
    answered = f"<Code>{code}</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId><StringToSign>s3cret</StringToSign>"
    error = error_of(ADDRESS, "a.mp4", status, answered)
    assert type(error) is kind
    assert str(error) == said


def test_no_credentials_at_all_is_said() -> None:
    text = "Error performing PUT http://169.254.169.254/latest/api/token - HTTP error: error sending request"
    assert "There are no credentials" in str(error_of(ADDRESS, "", None, text))


def test_an_error_that_is_not_of_object_storage_is_not_touched() -> None:
    with pytest.raises(ZeroDivisionError), told(ADDRESS, "a.mp4"):
        _ = 1 / 0


def test_what_cannot_be_a_key_is_known_before_anybody_is_asked() -> None:
    assert key_problem(ADDRESS, "day/é ü?#.json") is None
    assert "more than 1024 bytes" in str(key_problem(ADDRESS, "x" * 1022))
    assert key_problem(ADDRESS, "x" * 1021) is None
    assert "control characters" in str(key_problem(ADDRESS, "a\nb"))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("s3://footage", "s3://footage"),
        ("s3://footage/", "s3://footage"),
        ("s3://footage/a b/c/", "s3://footage/a b/c"),
        ("s3://footage//", "s3://footage"),
        ("s3://footage/a//b", None),
        ("s3://footage/../b", None),
        ("s3://fo", None),
        ("s3://Footage", None),
        ("https://footage/x", None),
        ("s3://KEY:SECRET@footage/x", None),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(given: str, read: str | None) -> None:
    if read is not None:
        assert known_address(given, "result_store") == read
        return
    with pytest.raises(ValueError, match="result_store must be a place such as s3://bucket") as refused:
        known_address(given, "result_store")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("given", ["minio:9000", "ftp://minio", "http://KEY:SECRET@minio", "http://", "http://m:x"])
def test_an_endpoint_is_a_url_without_a_password(given: str) -> None:
    with pytest.raises(ValueError, match="s3_endpoint must be a URL") as refused:
        known_endpoint(given)
    assert "SECRET" not in str(refused.value)
    assert known_endpoint("http://127.0.0.1:9000/") == "http://127.0.0.1:9000"
