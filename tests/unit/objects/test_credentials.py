"""Credentials of the shared files, which are read again while Dropframe runs."""

from pathlib import Path

import pytest

from daemon.objects.credentials import shared_credentials


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_CONFIG_FILE": str(tmp_path / "config")}


def write(environment: dict[str, str], variable: str, section: str, key: str) -> None:
    text = f"[{section}]\naws_access_key_id = {key}\naws_secret_access_key = a%b\n"
    Path(environment[variable]).write_text(text)


def test_the_profile_is_found_in_either_file_and_renewed(environment: dict[str, str]) -> None:
    assert shared_credentials(environment) is None
    write(environment, "AWS_CONFIG_FILE", "profile cam", "FIRST")
    assert shared_credentials(environment) is None
    read = shared_credentials({**environment, "AWS_PROFILE": "cam"})
    assert read is not None
    found = read()
    assert (found["access_key_id"], found["secret_access_key"], found["token"]) == ("FIRST", "a%b", None)
    assert found["expires_at"] is not None
    write(environment, "AWS_CONFIG_FILE", "profile cam", "SECOND")
    assert read()["access_key_id"] == "SECOND"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_what_the_environment_gives_goes_first(environment: dict[str, str], name: str) -> None:
    write(environment, "AWS_SHARED_CREDENTIALS_FILE", "default", "FILE")
    assert shared_credentials(environment) is not None
    assert shared_credentials({**environment, name: "x"}) is None


def test_a_file_that_is_none_counts_as_not_there(environment: dict[str, str]) -> None:
    Path(environment["AWS_SHARED_CREDENTIALS_FILE"]).write_bytes(b"\xff\xfe no section")
    assert shared_credentials(environment) is None
