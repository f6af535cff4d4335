"""Remote control: JSON on the wire, whatever tasks are sent in, so that inspect, Flower and other apps still understand."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from celery import Celery
from celery.app.control import Control

from celery_plugin import install
from celery_plugin.control import JsonControl
from safeserial import Key, Keyring


def app_with(*, early: bool = False, **options: Any) -> Celery:
    app = Celery("control", broker="memory://", set_as_current=False, **options)
    if early:
        _ = app.control.mailbox
    install(app, keyring=Keyring([Key.generate("k")]), quarantine="memory:", claims="memory:")
    return app


class Own(Control):  # type: ignore[misc]
    def own(self) -> str:
        return "mine"


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("options", [{}, {"control": Own}, {"control": "celery.app.control:Control"}])
def test_the_mailbox_writes_and_accepts_json_only(early: bool, options: dict[str, Any]) -> None:
    app = app_with(early=early, **options)
    assert app.conf.task_serializer == "safeserial"
    assert app.control.mailbox.serializer == "json"
    assert list(app.control.mailbox.accept) == ["json"]
    if options.get("control") is Own:
        assert app.control.own() == "mine"


def test_the_node_of_a_worker_accepts_json_only() -> None:
    app = app_with()
    node = app.control.mailbox.Node("worker@host")
    assert node.mailbox.accept == ["json"]
    assert isinstance(app.control, JsonControl)


def test_a_broadcast_is_json_on_the_wire() -> None:
    app = app_with()
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.queues.clear()
        mailbox = app.control.mailbox
        queue = mailbox.get_queue("w@h")(channel)
        queue.declare()
        app.control.broadcast("ping", connection=connection)
        raw = channel._get(queue.name)
    assert raw["content-type"] == "application/json"
    assert json.loads(base64.b64decode(raw["body"]))["method"] == "ping"
