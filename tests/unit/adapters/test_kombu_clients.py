"""One Redis client for each channel: kept while its pool is, made anew with it, and never the one that waits."""

from __future__ import annotations

from typing import Any

import kombu
import pytest
from kombu.transport import redis as transport

from safeserial.adapters import kombu_clients


@pytest.fixture
def channel() -> Any:
    """A channel that has not connected yet; nothing here asks a server."""
    kombu_clients.keep()
    made = transport.Channel.__new__(transport.Channel)
    made._pool = made._async_pool = None
    made.Client = transport.redis.Redis
    made.keyprefix_fanout = ""
    made.connection = kombu.Connection("redis://127.0.0.1:1/0")
    pools: list[Any] = []

    def pool(asynchronous: bool = False) -> Any:
        pools.append(transport.redis.ConnectionPool(host="127.0.0.1", port=1))
        return pools[-1]

    made._get_pool = pool
    yield made
    made._closing = made._registered = False
    for one in pools:
        one.disconnect()


def test_a_channel_keeps_its_client_while_it_keeps_its_pool(channel: Any) -> None:
    first = channel._create_client()
    with channel.conn_or_acquire() as client:
        assert client is first is channel._create_client()
    assert first.connection_pool is channel.pool
    channel._pool = None  # as after a lost connection, and in a child
    assert channel._create_client() is not first
    assert channel._create_client().connection_pool is channel.pool


def test_the_client_that_waits_for_messages_is_its_own(channel: Any) -> None:
    waiting = channel._create_client(asynchronous=True)
    assert waiting is not channel._create_client()
    assert waiting is not channel._create_client(asynchronous=True)
    assert waiting.connection_pool is channel.async_pool


def test_it_is_done_once(channel: Any) -> None:
    before = transport.Channel._create_client
    kombu_clients.keep()
    assert transport.Channel._create_client is before
