"""URLs of Redis."""

from __future__ import annotations

import pytest

from statestream.service.durability.stores import open_store
from statestream.service.durability.stores.redis_connection import parse
from statestream.service.errors import InvalidArgument


def test_a_url_of_sentinels_names_them_the_service_and_the_database() -> None:
    address = parse("rediss+sentinel://user:p%40ss@one:1,[::2]:2,three/robots/4")
    assert address.kind == "sentinel"
    assert address.hosts == (("one", 1), ("::2", 2), ("three", 26379))
    assert address.service == "robots"
    assert address.options == {"ssl": True, "username": "user", "password": "p@ss", "db": 4}


def test_a_url_of_a_cluster_names_some_of_its_nodes() -> None:
    address = parse("redis+cluster://:secret@one:1,two")
    assert (address.kind, address.hosts) == ("cluster", (("one", 1), ("two", 6379)))
    assert address.options == {"password": "secret"}


def test_sentinels_have_a_user_and_password_of_their_own() -> None:
    address = parse("redis+sentinel://:p%40ss@one:1/robots?sentinel_username=w&sentinel_password=a%26b")
    assert address.sentinel_options == {"username": "w", "password": "a&b"}
    assert address.options == {"password": "p@ss", "db": 0}


def test_any_other_url_is_for_redis_py() -> None:
    assert parse("unix:///run/redis.sock?db=1").kind == ""


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+sentinel://one:1", "expected redis.sentinel://HOST:PORT,…/SERVICE/DB"),
        ("redis+sentinel://one:1/robots/first", "expected redis.sentinel://HOST:PORT,…/SERVICE/DB"),
        ("redis+sentinel://one:0/robots", "'one:0' is not HOST:PORT"),
        ("redis+cluster://one:1,,two:2", "'' is not HOST:PORT"),
        ("redis+cluster://one:port", "'one:port' is not HOST:PORT"),
        ("redis+cluster://one:1/2", "a cluster has only the database 0"),
        ("redis+sentinel://one:1/robots?password=p", "parameter 'password' after the '.' is unknown"),
        ("redis+cluster://one:1?sentinel_password=p", "parameter 'sentinel_password' after the '.' is unknown"),
        ("redis+other://one:1", "expected memory, sqlite:PATH or redis"),
    ],
)
def test_a_wrong_url_is_refused_by_what_is_wrong_with_it(url: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redid://user:s3cr:et@one:1/0", "redid://user:***@one:1/0"),
        ("redis+sentinel://:s3cret@one:1", "redis+sentinel://:***@one:1"),
        (
            "redis+cluster://u:s3cret@one:1/2?sentinel_password=s3cret",
            "redis+cluster://u:***@one:1/2?sentinel_password=***",
        ),
        ("redis+cluster://u:s3cret@one:port", "redis+cluster://u:***@one:port"),
    ],
)
def test_no_error_shows_a_password(url: str, shown: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        open_store(url)
    assert shown in str(error.value)
    assert "s3c" not in str(error.value)
