"""The runtime: made lazily, complete at start-up, found again by key in the process that runs the task."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from celery_plugin import install
from celery_plugin import runtime as runtimes
from safeserial import Key, Keyring, Misconfigured


def app() -> Celery:
    return Celery("runtime", broker="memory://", set_as_current=False)


def test_installing_resolves_nothing_yet() -> None:
    """Task modules cannot be imported while the module that makes the app is still running."""
    runtime = install(app(), keyring="env:NO_SUCH_VARIABLE", allow=["no_such_module:Thing"])
    assert not {"settings", "policy", "keyring", "gateway", "claims", "quarantine"} & set(vars(runtime))
    with pytest.raises(Misconfigured):
        runtime.prepare_worker()


def test_a_runtime_is_found_by_its_key_and_by_its_app(bench: Any) -> None:
    assert runtimes.find(bench.runtime.key) is bench.runtime
    assert runtimes.of_app(bench.app) is bench.runtime


def test_what_is_not_installed_is_not_found() -> None:
    with pytest.raises(Misconfigured, match="install"):
        runtimes.find("nobody:7")
    with pytest.raises(Misconfigured, match="install"):
        runtimes.of_app(app())


def test_keys_differ_between_apps_of_one_name() -> None:
    ring = Keyring([Key.generate("k")])
    one = install(app(), keyring=ring, quarantine="memory:", claims="memory:")
    two = install(app(), keyring=ring, quarantine="memory:", claims="memory:")
    assert one.key != two.key


def test_stores_are_made_once(bench: Any) -> None:
    runtime = bench.runtime
    assert runtime.gateway is runtime.gateway
    assert runtime.claims is bench.claims
    assert runtime.quarantine is bench.quarantine


def test_wishes_may_be_as_large_as_a_body_but_are_plain(bench: Any) -> None:
    limits = bench.runtime.wish_limits
    assert limits.max_bytes == bench.runtime.policy.limits.max_raw_bytes
    assert not limits.allow_nan
    assert limits.max_int_bits == 64
    assert not bench.runtime.legacy_limits.allow_nan


def test_queue_names_follow_declared_aliases(make_bench: Any) -> None:
    runtime = make_bench(queue_aliases={"dead": "celery", "any": "*"}).runtime
    assert runtime.names_of("celery") == ("celery", "celery")
    assert runtime.names_of("dead") == ("dead", "celery")
    assert runtime.names_of("any") == ("any", None)
