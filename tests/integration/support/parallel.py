"""How a run in several processes (``pytest -n``) is dealt out: in groups that may run anywhere, each in one process.

Most of the time goes by while real workers start, wait and stop. A worker is a fixture of a module, once for each of its
parameters; so a group is what shares one, and a long file is several groups. Where tests share nothing that is dear, each
function is a group. Without ``-n`` nothing here is used, and pytest-xdist need not be there.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

__all__ = ["processes", "scheduler", "tell_groups"]

#: Fixtures of modules and sessions that cost next to nothing, so that another process may just have its own.
CHEAP = frozenset({"broker_name", "corner", "ran_key", "request", "services", "shop_at", "stock_only"})
#: Tests here are short, and many, unless they say that they are slow, and then they stand alone; or they share what has a
#: fixed name, such as the queues and the database of the examples.
WHOLE = ("tests/unit/", "tests/property/", "tests/fuzz/", "tests/docs/")
GROUPS = "groups.json"


def processes() -> int:
    """For ``-n auto``: more than there are cores, because most of the tests wait most of the time.

    No more than six: each needs a database of Redis or two, and a server has sixteen.
    """
    return min(len(os.sched_getaffinity(0)) + 4, 6)


def group_of(item: pytest.Item) -> str:
    """The name of what this test shares its dear fixtures with."""
    file, _, name = item.nodeid.partition("::")
    if file.startswith(WHOLE):
        return file if item.get_closest_marker("slow") is None else item.nodeid
    spec = getattr(item, "callspec", None)
    params = spec.params if spec else {}
    scopes = spec._arg2scope if spec else {}
    shared = "-".join(f"{params[name]}" for name in sorted(params) if scopes[name].name != "Function")
    return f"{file}[{shared}]" if dear(item) else f"{file}[{shared}]{name.partition('[')[0]}"


def dear(item: Any) -> bool:
    """Whether it uses a fixture of its module that is not cheap."""
    definitions = item._fixtureinfo.name2fixturedefs
    return any(
        definition.scope != "function" and name not in CHEAP and "integration" in (definition.baseid or "")
        for name in item.fixturenames
        for definition in definitions.get(name, ())[-1:]
    )


def tell_groups(items: Iterable[pytest.Item], folder: Path) -> None:
    """Each process collects the same, and only there it is known what a test uses: so they tell the one that deals."""
    groups = {item.nodeid: [group_of(item), rank_of(item)] for item in items}
    draft = folder / f"{GROUPS}.{os.getpid()}"
    draft.write_text(json.dumps(groups), "utf-8")
    draft.replace(folder / GROUPS)


def rank_of(item: pytest.Item) -> int:
    """What takes long is dealt first, so that what is short fills the gaps at the end."""
    for rank, names in enumerate((("slow",), ("redis", "rabbitmq"))):
        if any(item.get_closest_marker(name) is not None for name in names):
            return rank
    return 2


def scheduler(config: pytest.Config, log: Any, folder: Path) -> Any:
    """Deals groups to processes, by rank and then by size."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def __init__(self) -> None:
            super().__init__(config, log)
            self.groups: dict[str, str] = {}
            self.ranks: dict[str, int] = {}

        def _split_scope(self, nodeid: str) -> str:
            return self.groups[nodeid]

        def _assign_work_unit(self, node: Any) -> None:
            # They stand there by size; the first of the lowest rank is next.
            self.workqueue.move_to_end(min(self.workqueue, key=self.ranks.__getitem__), last=False)
            super()._assign_work_unit(node)

        def schedule(self) -> None:
            if not self.groups:
                for nodeid, (group, rank) in json.loads((folder / GROUPS).read_text("utf-8")).items():
                    self.groups[nodeid] = group
                    self.ranks[group] = min(rank, self.ranks.get(group, rank))
            super().schedule()

    return Groups()
