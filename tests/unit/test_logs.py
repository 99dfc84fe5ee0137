"""How events are logged."""

import json
import logging
import sys

from nodes.logs import JsonLines, TextLines


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": "nodes.serving.post",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "ended after %s",
            "args": (3,),
        }
    )
    made.created = 1_800_000_000.25
    vars(made).update(extra)
    return made


def test_text_is_one_line_with_what_was_given() -> None:
    line = TextLines("node").format(record(post="worker-0", cause="signal SIGKILL"))
    assert line == "2027-01-15T08:00:00.250Z WARNING node: ended after 3 post=worker-0 cause=signal SIGKILL"


def test_json_is_one_object_a_line() -> None:
    line = JsonLines("node").format(record(post="worker-0", path="a\nb"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "warning",
        "process": "node",
        "logger": "nodes.serving.post",
        "event": "ended after 3",
        "post": "worker-0",
        "path": "a\nb",
    }


def test_an_exception_goes_with_its_event() -> None:
    try:
        raise ValueError("planted")
    except ValueError:
        failed = record(exc_info=sys.exc_info())
    assert "planted" in json.loads(JsonLines("node").format(failed))["exception"]
    assert TextLines("node").format(failed).splitlines()[-1] == "ValueError: planted"
