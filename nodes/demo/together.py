"""Doing several things at once, so that one Fault comes out where one of them fails."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from resolver.errors import Fault, first_fault

_Kind = TypeVar("_Kind")


async def together(tasks: Iterable[Coroutine[Any, Any, _Kind]]) -> list[_Kind]:
    """Run all of them, and give what they give, in their order.

    Raises:
        Fault: that of the first which failed; the others have ended by then.
    """
    raised: Fault | None = None
    started: list[asyncio.Task[_Kind]] = []
    try:
        async with asyncio.TaskGroup() as group:
            started.extend(group.create_task(each) for each in tasks)
    except* Fault as faults:
        raised = first_fault(faults)
    if raised:
        raise raised
    return [task.result() for task in started]
