"""Switches of the whole suite: which build is under test, and which servers the integration tests may use.

``SAFESERIAL_EXPECT=pure|compiled``
    The run ends with exit status 3 if the other build of minipickle was imported: a silent fallback proves nothing. Set or
    not, it ends like that if the compiled one was not made from the source as it is, for then it proves nothing either.
``SAFESERIAL_REQUIRE_SERVICES=1``
    A test that needs a server which is not there fails instead of being skipped.
``SAFESERIAL_TEST_REDIS_URL``, ``SAFESERIAL_TEST_AMQP_URL``
    Other addresses than 127.0.0.1:6379 and :5672; ``off`` pretends that there is none.
``SAFESERIAL_TEST_THOROUGH=1``
    Tests marked ``thorough`` run too, as in CI: what takes a minute and more, and rarely finds what no other test finds.
``SAFESERIAL_SAME_EXAMPLES=1``
    Property tests draw the same examples in every run, so that coverage is a fact about the tests and not about luck.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# No deadline, and no complaint about slow examples: these machines are shared, and a slow one proves nothing.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("SAFESERIAL_SAME_EXAMPLES", "0") not in ("", "0"),
)
hypothesis.settings.load_profile("suite")

# The worker processes of the integration tests import `shop` by that name, and what they pickle says so.
for folder in ("integration", "integration/apps"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

from support import parallel  # noqa: E402 - found through the line above
from support.services import Missing, Services, services_required  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = {"redis": "Redis", "rabbitmq": "RabbitMQ"}
SERVICES = pytest.StashKey[Services]()
SKIPPED = pytest.StashKey[Counter[str]]()
REASONS = pytest.StashKey[dict[str, str]]()
SHARED = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "last: runs after every other test of its module and parameter")
    config.stash[SKIPPED], config.stash[REASONS] = Counter(), {}
    if hasattr(config, "workerinput"):
        config.stash[SHARED] = Path(config.workerinput["shared"])
    elif getattr(config.option, "numprocesses", None):
        config.stash[SHARED] = Path(tempfile.mkdtemp(prefix="safeserial-tests-"))
    config.stash[SERVICES] = Services(config.stash.get(SHARED, None))
    problem = wrong_build(os.environ.get("SAFESERIAL_EXPECT", "")) or stale_extension()
    if problem:
        pytest.exit(problem, returncode=3)


def wrong_build(expected: str) -> str:
    """What is wrong with the build that was imported, or nothing."""
    if not expected:
        return ""
    try:
        build = getattr(importlib.import_module("safeserial.minipickle"), "BUILD", "neither")
    except ModuleNotFoundError as error:
        build = f"none ({error})"
    return "" if build == expected else f"SAFESERIAL_EXPECT: expected the {expected} build of minipickle, got {build}"


def stale_extension() -> str:
    """Whether a compiled module, if there is one, is of another source than the one that these tests are about.

    It matters on the pure build, too: some tests compare the two.
    """
    return (
        stale("minipickle", "machine")
        or stale("formats", "plain")
        or stale("formats", "protobuf_scan")
        or stale("formats", "counts")
        or stale("formats", "tags")
        or stale("envelope", "header")
        or stale("", "probing")
    )


def stale(package: str, module: str) -> str:
    spec = importlib.util.find_spec(".".join(filter(None, ("safeserial", package, f"_{module}_c"))))
    if spec is None or spec.origin is None:
        return ""
    extension = Path(spec.origin)
    tree = Path(__file__).parents[1] / "safeserial" / package
    if extension.parent == tree:
        sources = [tree / name for name in (f"{module}.py", f"{module}.pxd", f"_{module}_c.pxd")]
        newer = [source.name for source in sources if source.stat().st_mtime > extension.stat().st_mtime]
        return f"{extension.name} is older than {', '.join(newer)}: compile it again (make)" if newer else ""
    # An installed wheel: pip gives its files any times, but it has the source that was compiled.
    if (extension.parent / f"{module}.py").read_bytes() != (tree / f"{module}.py").read_bytes():
        return f"{extension} was not made from the {module}.py of this tree: install it again"
    return ""


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVICES in config.stash and not hasattr(config, "workerinput"):
        config.stash[SERVICES].stop()
        if SHARED in config.stash:
            shutil.rmtree(config.stash[SHARED], ignore_errors=True)


# -- with `-n`: several processes, see support/parallel.py; the hooks are pytest-xdist's, which may be missing ------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return parallel.processes()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["shared"] = str(node.config.stash[SHARED])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return parallel.scheduler(config, log, config.stash[SHARED])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        parallel.tell_groups(session.items, session.config.stash[SHARED])


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["skipped"] = dict(config.stash[SKIPPED])
        config.workeroutput["reasons"] = config.stash[REASONS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})
    node.config.stash[SKIPPED].update(told.get("skipped", {}))
    node.config.stash[REASONS].update(told.get("reasons", {}))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move tests marked ``last`` behind their siblings, after every plugin that shuffles has shuffled."""

    def group(item: pytest.Item) -> tuple[str, str]:
        spec = getattr(item, "callspec", None)
        names = (str(spec.params.get(name, "")) for name in ("broker_name", "pool")) if spec else ()
        return item.nodeid.split("::")[0], "-".join(names)

    rank: dict[tuple[str, str], int] = {}
    for item in items:
        rank.setdefault(group(item), len(rank))
    files: dict[str, int] = {}
    for file, _ in rank:
        files.setdefault(file, len(files))
    items.sort(key=lambda i: (files[group(i)[0]], rank[group(i)], i.get_closest_marker("last") is not None))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("thorough") and os.environ.get("SAFESERIAL_TEST_THOROUGH", "0") in ("", "0"):
        pytest.skip("takes long: SAFESERIAL_TEST_THOROUGH=1 runs it, as CI does")
    lacking = []
    for marker, name in NAMES.items():
        if item.get_closest_marker(marker) is None:
            continue
        try:
            item.config.stash[SERVICES].url(marker)
        except Missing as missing:
            lacking.append(str(missing))
            item.config.stash[SKIPPED][name] += not services_required()
            item.config.stash[REASONS][name] = str(missing)
    if lacking and services_required():
        pytest.fail(f"SAFESERIAL_REQUIRE_SERVICES is set; {'; '.join(lacking)}", pytrace=False)
    if lacking:
        pytest.skip("; ".join(lacking))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = +config.stash[SKIPPED]
    if skipped:
        terminalreporter.section("skipped for lack of services")
        for name, count in sorted(skipped.items()):
            terminalreporter.write_line(f"{count} tests need {name}. {config.stash[REASONS][name]}")


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Services:
    """Addresses of the servers; ``url(name)`` raises where one is missing."""
    return request.config.stash[SERVICES]


@pytest.fixture(autouse=True)
def _as_declared() -> Iterator[None]:
    """What a test declares in the registry that a whole program shares, the next one does not find there."""
    from safeserial.schema.registry import SchemaRegistry, default_registry

    revision = SchemaRegistry.revision
    tables = (default_registry._declared, default_registry._upcasters, default_registry._chains)
    before = [{name: copy.copy(value) for name, value in table.items()} for table in tables]
    unnamed = list(default_registry.unnamed)
    yield
    if revision != SchemaRegistry.revision:
        for table, then in zip(tables, before, strict=True):
            table.clear()
            table.update(then)  # type: ignore[arg-type]
        default_registry.unnamed[:] = unnamed
        SchemaRegistry.revision += 1  # so that nobody keeps what followed from it
