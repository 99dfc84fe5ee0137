"""A cluster with all its parts, of which some are lost and come back, and a model that knows each right answer.

Two machines on a ring of three, with a Redis between. One caller registers, replaces and deletes, by a seed; others
ask both machines all the while. What each may be told follows from what was answered to the writer until then:
nothing older than the bound, nothing that was never written, and no error.
"""

import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import pytest

from resolver.errors import Fault
from resolver.v1 import resolver_pb2 as pb
from tests.journeys.conftest import TopNode
from tests.ring_site import NODE, Member, Site
from tests.running_node import RunningNode, wait_until
from tests.services.redis_servers import RedisServer
from tests.services.rings import RunningRing
from tests.topnode import told, topnode

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.needs("redis"), pytest.mark.timeout(900)]

SEED: Final = 20_261_129
IDENTIFIERS: Final = 40
CALLERS: Final = 2
BOUND: Final = 1.0
"""Seconds after which a change that was answered is known: what is promised (`following.bypass_after`)."""

ABSENT: Final = 0
"""The version of what was deleted, or never was."""


class Told(NamedTuple):
    """One answer: who was asked what, from when to when, and what came."""

    machine: str
    identifier: str
    began: float
    ended: float
    version: int
    text: bytes
    is_stale: bool


class Model:
    """What was written, and when the writer was told so. An entry changes an identifier once."""

    def __init__(self) -> None:
        self._written: dict[str, list[tuple[float, float, int, bytes]]] = defaultdict(list)

    def note(self, identifier: str, sent: float, answered: float, version: int, text: bytes) -> None:
        """Take down a change: `text` is empty where it was deleted."""
        self._written[identifier].append((sent, answered, version, text))

    def objection(self, told: Told) -> str:
        """Say what is wrong with an answer; nothing, it is hoped."""
        states = [(float("-inf"), float("-inf"), 0, b""), *self._written[told.identifier]]
        known = max(place for place, (_, answered, *_) in enumerate(states) if answered <= told.began - BOUND)
        possible = [(version, text) for sent, _, version, text in states[known:] if sent <= told.ended]
        if told.version == ABSENT:
            return "" if any(not text for _, text in possible) else f"absent, where {possible} can be"
        return (
            "" if (told.version, told.text) in possible else f"{told.version} {told.text!r}, where {possible} can be"
        )


class Caller(threading.Thread):
    """Asks one machine about one identifier after the other, and takes down what it is told."""

    def __init__(self, name: str, machine: RunningNode, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self.told: list[Told] = []
        self.faults: list[tuple[float, str]] = []
        self._machine_name = name
        self._machine = machine
        self._chance = random.Random(seed)
        self._stop_asking = stop

    def run(self) -> None:
        with self._machine.channel() as channel:
            while not self._stop_asking.is_set():
                self._ask(f"{NODE}/M-{self._chance.randrange(IDENTIFIERS):02}", channel)

    def _ask(self, identifier: str, channel: grpc.Channel) -> None:
        began = time.monotonic()
        try:
            answer = self._machine.resolve(identifier, channel)
        except Fault as fault:
            self.faults.append((began, str(fault)))
            return
        is_found = answer.outcome == pb.OUTCOME_FOUND
        version, text = (answer.version, answer.record.values[0].data) if is_found else (ABSENT, b"")
        ended = time.monotonic()
        self.told.append(Told(self._machine_name, identifier, began, ended, version, text, answer.stale))


class Writer(threading.Thread):
    """Registers, replaces and deletes; each text says which change it was."""

    def __init__(self, member: Member, machine: RunningNode, model: Model, stop: threading.Event) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._member = member
        self._machine = machine
        self._model = model
        self._chance = random.Random(SEED)
        self._stop_writing = stop

    def run(self) -> None:
        with self._machine.registry_channel() as channel:
            number = 0
            while not self._stop_writing.is_set():
                number += 1
                self._write(number, channel)

    def _write(self, number: int, channel: grpc.Channel) -> None:
        some = self._chance.sample(range(IDENTIFIERS), self._chance.randint(1, 5))
        changes = {f"{NODE}/M-{each:02}": self._change(number) for each in some}
        rows = [
            {"identifier": each, "overwrite": True, "values": [{"index": 1, "type": "N", "data": text}]}
            if text
            else {"identifier": each, "op": "delete"}
            for each, text in changes.items()
        ]
        octets = self._member.request({"rows": rows, "partial": True})
        sent = time.monotonic()
        while not self._stop_writing.is_set():
            try:
                response = self._machine.submit(octets, channel)
                break
            except Fault as fault:
                # Sent again as it is, which is what one does: it gets its first answer.
                self.faults.append(str(fault))
        else:
            return
        answered = time.monotonic()
        refused = {each.row for each in response.result.refusals}
        for row, (identifier, text) in enumerate(changes.items()):
            if row not in refused:
                self._model.note(identifier, sent, answered, response.receipt.index, text.encode())

    def _change(self, number: int) -> str:
        return "" if self._chance.random() < 0.2 else f"change {number}"


@contextmanager
def asking(machines: dict[str, RunningNode], stop: threading.Event) -> Iterator[list[Caller]]:
    callers = [
        Caller(name, machine, SEED + number, stop) for name, machine in machines.items() for number in range(CALLERS)
    ]
    for caller in callers:
        caller.start()
    try:
        yield callers
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def test_whatever_is_lost_nobody_is_told_what_is_wrong_or_older_than_the_bound(
    ring: RunningRing, redis_server: RedisServer, top_node: TopNode, tmp_path: Path
) -> None:
    """Redis killed, back, frozen; a node of the ring killed, and back: every answer is right by the model."""
    with ring.keyspace() as keyspace:
        site = Site(tmp_path, ring, keyspace, replicas=3, redis=redis_server.address)
        assert told(topnode("store", "migrate", *site.options(), "--json"))["applied"]
        machines = {each: top_node(*site.options(), workers=1, data=tmp_path / each) for each in ("first", "second")}
        wait_until(
            lambda: "serving" in {each.conditions()["owner"] for each in machines.values()},
            60,
            log=machines["first"].log,
        )
        (writes_at,) = [each for each in machines.values() if each.conditions()["owner"] == "serving"]
        model, stop = Model(), threading.Event()
        writer = Writer(Member(site, writes_at), writes_at, model, stop)
        with asking(machines, stop) as callers:
            writer.start()
            try:
                marks = _disturb(ring, redis_server)
            finally:
                stop.set()
                writer.join()
        ring.mend()
    everything = [each for caller in callers for each in caller.told]
    assert min(len(caller.told) for caller in callers) > 50
    objections = [(each, objection) for each in everything if (objection := model.objection(each))]
    assert objections == []
    assert [fault for caller in callers for fault in caller.faults] == []
    assert not [each for each in everything if each.is_stale and each.began > marks]
    assert writer.faults == []


def _disturb(ring: RunningRing, redis: RedisServer) -> float:
    """Lose parts and have them back, and give when all of them were."""
    time.sleep(4)
    redis.kill()
    time.sleep(4)
    redis.start()
    time.sleep(4)
    os.kill(redis.pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(redis.pid, signal.SIGCONT)
    time.sleep(2)
    ring.kill(3)
    time.sleep(6)
    ring.start(3)
    back = time.monotonic()
    time.sleep(6)
    return back
