"""Several things at once: what they give, and what is raised when one fails."""

import asyncio

import pytest

from nodes.demo.together import together
from resolver.errors import Fault, Reason


async def test_results_come_in_the_order_of_the_tasks() -> None:
    async def wait(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await together(wait(each) for each in (3, 1, 2)) == [3, 1, 2]
    assert await together([]) == []


async def test_the_first_fault_comes_out_when_the_others_have_ended() -> None:
    ended = []

    async def fail() -> None:
        raise Fault(Reason.INTERNAL, "planted")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(Fault, match="planted"):
        await together([wait(), fail()])
    assert ended == [True]
