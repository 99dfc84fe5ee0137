"""Vantage points: what counts of what they say, for how long, and what they may say."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nodes.probing.deciding import Standing
from nodes.probing.seen import ChildSeen, NodesSeen, TallySeen
from nodes.probing.settings import VantageSettings
from nodes.probing.vantage import Vantage, tally_of
from nodes.probing.window import Tally
from resolver.clock import SetClock

LASTS = 22.0


def child(name: str, probes: int, failed: int) -> ChildSeen:
    return ChildSeen(
        node=name,
        tier="secondary",
        standing=Standing.UP,
        probes=probes,
        failed=failed,
        availability=None,
        latency_seconds={},
        # What it has from others is not passed on, or probes would be counted twice.
        elsewhere=TallySeen(probes=1_000, failed=1_000),
        endpoints=(),
        incident=None,
        incidents=(),
        agreement=False,
        takeover=False,
        takeover_automatic=False,
        takeover_since=0,
        takeover_reason="",
        due="",
    )


def document(**more: Any) -> bytes:
    said: dict[str, Any] = {
        "node": "other",
        "at": 1,
        "every": 10.0,
        "window": 300.0,
        "suspects_itself": False,
        "failing": 0,
        "counted": 2,
        "left_out": 0,
        "vantage": (),
        "children": [child("88.1", 30, 16), child("88.2", 30, 0)],
    }
    return NodesSeen(**{**said, **more}).to_json()


class Elsewhere:
    """A vantage point over a real HTTP server, which says whatever the test wants."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.answer: Callable[[], web.Response] = lambda: web.Response(body=document())

    async def serve(self, _request: web.Request) -> web.Response:
        return self.answer()


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Elsewhere, Vantage, aiohttp.ClientSession]]:
    here = Elsewhere()
    application = web.Application()
    application.router.add_get("/nodes", here.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings = VantageSettings(name="south", admin=f"127.0.0.1:{runner.addresses[0][1]}")
        async with aiohttp.ClientSession() as session:
            yield here, Vantage(settings, here.clock, timeout=5.0, lasts=LASTS), session
    finally:
        await runner.cleanup()


async def test_its_own_probes_count_for_a_while() -> None:
    async with asking() as (here, vantage, session):
        assert vantage.tally("88.1") == Tally()
        await vantage.ask(session)
        assert vantage.seen.counts
        assert vantage.tally("88.1") == Tally(30, 16)
        assert vantage.tally("88.9") == Tally()
        assert tally_of([vantage, vantage], "88.1") == Tally(60, 32)
        here.clock.advance(LASTS)
        assert vantage.tally("88.1") == Tally()
        assert not vantage.seen.counts


async def test_whoever_suspects_itself_counts_for_nothing() -> None:
    async with asking() as (here, vantage, session):
        await vantage.ask(session)
        here.answer = lambda: web.Response(body=document(suspects_itself=True))
        await vantage.ask(session)
        assert vantage.tally("88.1") == Tally()
        assert "suspects itself" in vantage.seen.cause
        here.answer = lambda: web.Response(body=document())
        await vantage.ask(session)
        assert vantage.seen.counts
        assert vantage.seen.cause == ""


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=503, text="This node probes nobody."),
        lambda: web.Response(text="something else"),
        lambda: web.Response(body=b"[]"),
        lambda: web.Response(status=302, headers={"Location": "http://192.0.2.1/"}),
    ],
)
async def test_what_is_no_such_document_counts_for_nothing(answer: Callable[[], web.Response]) -> None:
    async with asking() as (here, vantage, session):
        here.answer = answer
        await vantage.ask(session)
        assert (vantage.seen.counts, vantage.failures) == (False, 1)
        assert vantage.seen.cause


async def test_one_answer_that_fails_does_not_take_back_what_was_said_a_moment_ago() -> None:
    async with asking() as (here, vantage, session):
        await vantage.ask(session)
        here.answer = lambda: web.Response(status=500)
        await vantage.ask(session)
        assert vantage.tally("88.1") == Tally(30, 16)


async def test_nobody_there_counts_for_nothing() -> None:
    vantage = Vantage(VantageSettings(name="south", admin="127.0.0.1:1"), SetClock(), timeout=5.0, lasts=LASTS)
    async with aiohttp.ClientSession() as session:
        await vantage.ask(session)
    assert (vantage.seen.counts, vantage.failures) == (False, 1)
