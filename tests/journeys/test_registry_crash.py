"""The registry is killed at each step of its write path, its disk fills, its clock jumps: nothing is half-done.

After each kill the store is verified against its journal, the same requests are sent again, and the store must then
be, byte for byte, the one of a registry that was never killed.
"""

import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from nodes.auditing import read_trust, verify
from nodes.settings import NodeSettings
from registry.kinds import IMPORT
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store.embedded import current_owner
from resolver.store.embedded.snapshot import DATABASES, Snapshot
from resolver.trust.envelopes import Envelope
from resolver.trust.heads import LIFETIME, SKEW, Payload
from resolver.trust.receipts import check_receipt
from tests.journeys.registry_child import (
    ANSWERED,
    BEGUN,
    COMMITTED,
    LATE,
    PAGES,
    PLANNED,
    REACHED,
    RETURNED,
    VERIFIED,
    WRITTEN,
    read_requests,
    started,
    submit,
)
from tests.signing import registering
from tests.small_registry import SECONDARY, SmallRegistry, chunk_of, identifier_row, import_body, opened

BEFORE: Final = 252
"""Entries that are there before: the group completes a tile of the tree."""

PAGE: Final = 4_096

STEPS: Final = (
    REACHED,
    VERIFIED,
    PLANNED,
    BEGUN,
    "put entries",
    "put artefacts",
    "put answered",
    "put answers",
    "put nonces",
    "put records",
    "append records",
    "put long_keys",
    "put full",
    "delete full",
    "put prefixes",
    "put nodes",
    "put feed",
    "put meta (import/corpus)",
    "put tiles",
    "put meta (head)",
    "put meta (tree head)",
    WRITTEN,
    COMMITTED,
    RETURNED,
    ANSWERED,
)
"""Where the process is killed: before it does what the step says, the first time in the group."""


class Scene(NamedTuple):
    """A store before the group, one after it that nobody was killed for, and the steps between them."""

    before: Path
    after: Path
    steps: list[str]


async def prepare(folder: Path) -> Path:
    """Make a store, and five requests that are going to be one group."""
    data, requests = folder / "before" / "data", folder / "before" / "requests"
    requests.mkdir(parents=True)
    async with opened(data, SetClock()) as small:
        await small.join(SECONDARY)
        await small.apply("88.112")
        await small.submit(SECONDARY, "identifiers.v1", registering("88.111/THERE"))
        singles = range(small.registry.journal.size, BEFORE)
        await asyncio.gather(
            *(small.submit(SECONDARY, "identifiers.v1", registering(f"88.111/S{each}")) for each in singles)
        )
        for name, (octets, chunk) in zip("abcde", a_group(small), strict=True):
            (requests / f"{name}.envelope").write_bytes(octets)
            if chunk:
                (requests / f"{name}.chunk").write_bytes(chunk)
        small.keys[SECONDARY].to_file(data.parent / "secondary.pem")
    return data


def a_group(small: SmallRegistry) -> Iterator[tuple[bytes, bytes]]:
    """Sign requests that touch every database between them."""
    name = {"index": 1, "type": "NAME", "data": "new"}
    secret = {"index": 2, "type": "SECRET", "data": "not for all", "permissions": "1100"}
    rows = [
        {"identifier": "88.111/" + "L" * 600, "values": [name]},
        {"identifier": "88.111/WITH-A-SECRET", "values": [name, secret]},
        {"identifier": "88.111/THERE", "values": [name], "overwrite": True},
    ]
    yield small.signed(SECONDARY, "identifiers.v1", {"rows": rows}), b""
    prefixes = {"rows": [{"prefix": "88.300", "holder": "top"}]}
    yield small.signed("local", "prefix-allocate.v1", prefixes), b""
    yield small.signed("local", "node-review.v1", {"node": "88.112", "decision": "enable"}), b""
    chunk = chunk_of(*(identifier_row(f"88.300/{each:04}", each) for each in range(200)))
    yield small.signed("local", IMPORT, import_body(chunk, 200, is_last=False)), chunk
    yield small.signed(SECONDARY, "identifiers.v1", registering("88.111/LAST")), b""


def copied(data: Path, folder: Path) -> Path:
    return Path(shutil.copytree(data.parent, folder)) / "data"


def set_scene(folder: Path) -> Scene:
    before = asyncio.run(prepare(folder))
    after = copied(before, folder / "after")
    with started("steps", after) as child:
        assert child.stdout
        steps = child.stdout.read().splitlines()
        assert child.wait() == 0
    return Scene(before, after, steps)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return set_scene(tmp_path_factory.mktemp("scene"))


def rows(data: Path, database: str) -> dict[bytes, bytes]:
    """The rows of a database that are not this store's own."""
    with closing(Snapshot.open(data)) as snapshot:
        return {key: row for key, row in snapshot.rows(database) if (database, key) != ("meta", b"secret")}


async def findings(data: Path) -> list[str]:
    """What does not fit between the store and its journal."""
    trust = read_trust(NodeSettings(data=data), data)
    verdict = await verify(
        data, trust, scratch=None, clock=SystemClock(), told=lambda _what: lambda _done, _all: None
    )
    return [f"{each.index} {each.kind}: {each.detail}" for each in verdict.findings]


def head(data: Path) -> int:
    return int.from_bytes(rows(data, "meta")[b"head"], "big")


# --- killed at each step -----------------------------------------------------------------------------------------


class Left(NamedTuple):
    """What a kill left: entries of the group, and what does not fit.

    Then, all requests having been sent again, whether each got its first answer again, and the databases that differ
    from those of a registry that was never killed.
    """

    entries: int
    findings: list[str]
    repeated: list[bool]
    differing: list[str]


async def kill_at(scene: Scene, step: str, folder: Path) -> Left:
    """Kill a registry at this step, look at what it left, and send all its requests again."""
    data = copied(scene.before, folder)
    killed(data, step)
    entries, found = head(data) - BEFORE, await findings(data)
    async with opened(data, SetClock()) as small:
        requests = read_requests(data)
        answers = await asyncio.gather(*(submit(small, *each) for each in requests))
        key = small.registry.journal.verifier_key
    for answer in answers:
        assert answer.receipt
        assert check_receipt(answer.receipt, key).size == BEFORE + len(requests)
    differing = [each for each in DATABASES if rows(data, each) != rows(scene.after, each)]
    return Left(entries, found + await findings(data), [each.is_repeated for each in answers], differing)


def killed(data: Path, step: str, what: str = "group") -> None:
    with started(what, data, step) as child:
        assert child.wait(60) == -(signal.SIGXFSZ if step.startswith(PAGES) else signal.SIGKILL), step
    assert current_owner(data) is None


def test_the_steps_are_all_that_there_are(scene: Scene) -> None:
    """A step of the write path that is new has to be added here."""
    assert set(STEPS) == set(scene.steps)
    first = [scene.steps.index(each) for each in (REACHED, VERIFIED, PLANNED, BEGUN, WRITTEN, COMMITTED, RETURNED)]
    assert first == sorted(first)
    assert scene.steps.count(BEGUN) == 1, "the requests are one group"


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_at_any_step_leaves_nothing_or_everything(scene: Scene, tmp_path: Path, step: str) -> None:
    left = await kill_at(scene, step, tmp_path / "killed")
    is_late = step in LATE
    assert left == Left(5 if is_late else 0, [], [is_late] * 5, [])


async def test_a_store_that_does_not_keep_its_promise_is_found(scene: Scene, tmp_path: Path) -> None:
    """What these tests look at can go wrong, and is seen then."""
    data = copied(scene.before, tmp_path / "torn")
    killed(data, COMMITTED, "torn")
    assert head(data) - BEFORE == 1
    assert any(each.startswith("0 tree: ") for each in await findings(data))


def page_steps(scene: Scene) -> list[str]:
    """Kills while LMDB writes the pages of the commit: the first that makes the file longer, some, and the last.

    Some are in the middle of a page.
    """
    first, last = ((data / "data.mdb").stat().st_size for data in (scene.before, scene.after))
    assert last - first > 8 * PAGE
    return [f"{PAGES}{size}" for size in (first, first + 3 * PAGE + 100, (first + last) // 2, last - PAGE, last - 1)]


@pytest.mark.parametrize("place", range(5))
async def test_a_kill_within_the_commit_leaves_nothing(scene: Scene, tmp_path: Path, place: int) -> None:
    left = await kill_at(scene, page_steps(scene)[place], tmp_path / "killed")
    assert left == Left(0, [], [False] * 5, [])


def print_table() -> None:
    """Print what is left after a kill at each step, with every single write as a step of its own."""
    with tempfile.TemporaryDirectory() as folder:
        scene = set_scene(Path(folder))
        sys.stdout.write(f"{'killed before':<52} left         verified  sent again     as never killed\n")
        for number, step in enumerate([*STEPS[:-3], *page_steps(scene), *STEPS[-3:]]):
            left = asyncio.run(kill_at(scene, step, Path(folder) / str(number)))
            told = "everything" if left.entries == 5 else "nothing" if left.entries == 0 else f"{left.entries} of 5"
            again = "first answers" if all(left.repeated) else "taken now" if not any(left.repeated) else "mixed"
            verified = "yes" if not left.findings else "NO"
            same = "yes" if not left.differing else "NO: " + ", ".join(left.differing)
            sys.stdout.write(f"{step:<52} {told:<12} {verified:<9} {again:<14} {same}\n")


async def test_a_kill_at_the_first_start_is_in_nobodys_way(tmp_path: Path) -> None:
    """Between store, operator's key and journal's key: what was made stays, what was not is made."""
    for number in range(1, 20):
        data = tmp_path / f"data-{number}"
        with started("begin", data, number) as child:
            code = child.wait(60)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kept = {each.name: each.read_bytes() for each in data.glob("*.pem")} if data.exists() else {}
        async with opened(data, SetClock()) as small:
            await small.join(SECONDARY)
        assert kept.items() <= {each.name: each.read_bytes() for each in data.glob("*.pem")}.items()
        assert await findings(data) == []
    else:
        pytest.fail("none of these starts came to its end")
    assert number > 4


# --- killed at work ----------------------------------------------------------------------------------------------


async def test_every_receipt_that_was_given_is_good_after_kills_at_work(scene: Scene, tmp_path: Path) -> None:
    data = copied(scene.before, tmp_path / "killed")
    given: dict[int, bytes] = {}
    for seed in range(5):
        given |= killed_at_work(data, seed)
        assert await findings(data) == []
    async with opened(data, SetClock()) as small:
        for index, octets in given.items():
            answer = await small.registry.submit(octets)
            assert answer.is_repeated
            assert answer.receipt
            assert answer.receipt.index == index
            check_receipt(answer.receipt, small.registry.journal.verifier_key)
        assert len(given) <= small.registry.journal.size - BEFORE <= len(given) + 5


def killed_at_work(data: Path, seed: int) -> dict[int, bytes]:
    """Let a registry work for a while, kill it, and give the requests that it had answered, by their index."""
    with started("register", data) as child:
        assert child.stdout
        said = [child.stdout.readline()]
        time.sleep(random.Random(seed).uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().split("\n")[:-1]
    return {index: bytes.fromhex(octets) for index, octets in map(json.loads, said)}


@pytest.mark.parametrize("room", [20 * PAGE, 70 * PAGE + 1_234])
async def test_a_full_disk_refuses_and_loses_nothing(scene: Scene, tmp_path: Path, room: int) -> None:
    """What is refused changes nothing, and the same bytes are taken when there is room again."""
    data = copied(scene.before, tmp_path / "full")
    size = (data / "data.mdb").stat().st_size
    with started("fill", data, size + room) as child:
        assert child.stdout
        said = child.stdout.read()
        assert child.wait(60) == 0
    assert head(data) == int(said) > BEFORE
    assert await findings(data) == []


# --- after a restart, and with another time -----------------------------------------------------------------------


async def reasons(small: SmallRegistry, *requests: bytes) -> list[str]:
    """Why each was refused, or what its answer is."""
    found = []
    for octets in requests:
        try:
            answer = await small.registry.submit(octets)
        except Fault as fault:
            found.append(fault.reason.name)
        else:
            found.append("again" if answer.is_repeated else "taken")
    return found


def nonce_of(octets: bytes) -> str:
    return Payload.from_bytes(Envelope.from_bytes(octets).payload).head.nonce


async def test_after_a_restart_a_repetition_gets_its_first_answer_and_a_replay_none(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path, clock) as small:
        await small.join(SECONDARY)
        body = registering("88.111/ONCE")
        sent = small.signed(SECONDARY, "identifiers.v1", body, "request-1")
        assert await reasons(small, sent) == ["taken"]
        key = small.keys[SECONDARY]
    async with opened(tmp_path, clock) as small:
        small.keys[SECONDARY] = key
        signed_anew = small.signed(SECONDARY, "identifiers.v1", body, "request-1")
        other_body = small.signed(SECONDARY, "identifiers.v1", registering("88.111/OTHER"), "request-1")
        nonce = nonce_of(sent)
        replayed = small.signed(SECONDARY, "identifiers.v1", body, "request-2", nonce=nonce)
        size = small.registry.journal.size
        found = await reasons(small, sent, signed_anew, other_body, replayed)
        assert found == ["again", "again", "REQUEST_ID_REUSED", "NONCE_SPENT"]
        # When its nonce may be forgotten, the envelope has long been too old; its first answer is still given.
        clock.advance(LIFETIME + SKEW + 1)
        assert await reasons(small, sent, replayed) == ["again", "ENVELOPE_EXPIRED"]
        assert small.registry.journal.size == size
    assert await findings(tmp_path) == []


@pytest.mark.parametrize("jump", [-86_400, -31, 331, 86_400])
async def test_a_clock_that_jumps_refuses_what_was_signed_before_and_goes_on(tmp_path: Path, jump: int) -> None:
    """The server's time is told, by which the client signs anew; the journal stays in the order of acceptance."""
    clock = SetClock()
    async with opened(tmp_path, clock) as small:
        await small.join(SECONDARY)
        before, twin = (
            small.signed(SECONDARY, "identifiers.v1", registering(f"88.111/{each}"), each) for each in "AB"
        )
        assert await reasons(small, before) == ["taken"]
        clock.advance(jump)
        with pytest.raises(Fault) as refused:
            await small.registry.submit(twin)
        expected = Reason.ENVELOPE_EXPIRED if jump > 0 else Reason.ENVELOPE_NOT_YET_VALID
        assert (refused.value.reason, refused.value.variables["server_time"]) == (expected, str(int(clock.wall())))
        signed_anew = small.signed(SECONDARY, "identifiers.v1", registering("88.111/B"), "B")
        assert await reasons(small, signed_anew, twin, before) == ["taken", "again", "again"]
        # And back again, over the end of a term that was set in between.
        rows = [{"prefix": "88.111.9", "holder": SECONDARY, "expires_at": int(clock.wall()) + 100}]
        await small.submit(SECONDARY, "prefix-allocate.v1", {"rows": rows})
        await small.submit(SECONDARY, "identifiers.v1", registering("88.111.9/IN-TIME"))
        clock.advance(-jump)
        for text in ("88.111.9/BACK", "88.111/BACK"):
            await small.submit(SECONDARY, "identifiers.v1", registering(text))
    assert await findings(tmp_path) == []


async def test_a_few_seconds_of_difference_are_let_pass(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path, clock) as small:
        await small.join(SECONDARY)
        for jump in (-SKEW, LIFETIME + SKEW):
            octets = small.signed(SECONDARY, "identifiers.v1", registering(f"88.111/J{jump}"))
            clock.advance(jump)
            assert await reasons(small, octets) == ["taken"]
