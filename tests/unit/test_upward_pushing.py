"""The push upward between two registries in this process: what is refused, owed, taken back and begun again."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.client import PrivateKey, RegistryClient, Row, Signer, Submitted, Value
from nodes.client.signing import Draft
from nodes.upward.copies import Copies
from nodes.upward.joining import Joining
from nodes.upward.metrics import UpwardMetrics
from nodes.upward.outbox import Outbox
from nodes.upward.pushing import RETRY_SECONDS, Pushing
from nodes.upward.refused import FILE as REFUSED
from nodes.upward.refused import RefusedFile
from nodes.upward.routes import Routes
from nodes.upward.settings import UpwardSettings
from nodes.upward.watermark import WatermarkFile
from registry.keyring import OPERATOR_FILE
from registry.opening import Registry, open_registry
from registry.rows import PrefixRow
from registry.service import RegistryService
from registry.settings import RegistrySettings
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Endpoint, PrefixState, Protocol
from resolver.rpc.serving import ServingSettings, build_server
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.actors import Tier
from resolver.wire import decode_record

CHILD: Final = "88.111"
ENDPOINT: Final = Endpoint(Protocol.GRPC, "192.0.2.7", 3641)


@asynccontextmanager
async def served(node: str, data: Path) -> AsyncIterator[tuple[Registry, RegistryClient]]:
    """Serve the registry of a node over a store in this folder; give it, and a client of its operator."""
    metrics, clock = CollectorRegistry(), SystemClock()
    address = f"unix:{data}.sock"
    async with AsyncExitStack() as stack:
        store = stack.enter_context(closing(EmbeddedWriter.open(data, owner=Owner.here("a test", clock=clock))))
        settings = RegistrySettings()
        opened = await stack.enter_async_context(
            open_registry(store, node=node, data=data, settings=settings, clock=clock, registry=metrics)
        )
        server = build_server(ServingSettings(address=address))
        RegistryService(opened, settings, clock, metrics).add_to(server)
        await server.start()
        stack.push_async_callback(server.stop)
        signer = Signer("local", PrivateKey.from_file(data / OPERATOR_FILE))
        yield opened, await stack.enter_async_context(RegistryClient(address, signer))


class Pair:
    """The registry above, that of the child, and the push from the one to the other, step by step."""

    def __init__(
        self, folder: Path, top: Registry, above: RegistryClient, own: Registry, below: RegistryClient
    ) -> None:
        self.top, self.above, self.own, self.below = top, above, own, below
        self.clock = SetClock()
        self.metrics = UpwardMetrics(CollectorRegistry())
        self.folder = folder
        self.key = PrivateKey.generate()
        self.client = RegistryClient(f"unix:{folder / 'top'}.sock", Signer(CHILD, self.key))

    async def begin(self) -> "Pair":
        """Take up the push where its file says that it is, as after a start."""
        outbox = Outbox(self.own.store, self.own.state)
        refused = RefusedFile(self.folder, self.metrics.dropped)
        file = WatermarkFile(self.folder)
        self.pushing = Pushing(
            store=self.own.store,
            outbox=outbox,
            routes=Routes(
                node=CHILD,
                state=self.own.state,
                client=self.client,
                endpoints=[ENDPOINT],
                refused=refused,
                metrics=self.metrics,
                clock=self.clock,
            ),
            copies=Copies(self.own.store, outbox, self.client, refused, self.metrics, self.clock),
            endpoints=[ENDPOINT],
            file=file,
            mark=await file.read("top"),
            metrics=self.metrics,
            clock=self.clock,
        )
        return self

    async def push(self) -> None:
        """Do all that there is to do now."""
        while await self.pushing.step():
            pass

    async def push_later(self) -> None:
        """Do the same when what was refused is tried again."""
        self.clock.advance(RETRY_SECONDS)
        await self.push()

    async def register(self, *rows: Row) -> None:
        for submitted in [each async for each in self.below.register_all(rows, partial=False)]:
            submitted.insist()

    async def names(self, *keys: str) -> list[str]:
        """Give the names that are registered above, or what is there instead."""
        bodies = (await self.top.store.public([key.encode() for key in keys])).bodies
        return [_name(body) for body in bodies]

    def refused(self) -> list[str]:
        path = self.folder / REFUSED
        return path.read_text().splitlines() if path.exists() else []


def _name(body: bytes | None) -> str:
    if body is None:
        return "nothing"
    record = decode_record(body)
    return "deleted" if record.tombstone else record.values[0].data.decode()


def row(name: str, text: str = "first", prefix: str = CHILD) -> Row:
    return Row(identifier=f"{prefix}/{name}", values=[Value(index=1, type="NAME", data=text)], overwrite=True)


def deletion(name: str) -> Row:
    return Row(identifier=f"{CHILD}/{name}", op="delete")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with served("top", tmp_path / "top") as (top, above), served(CHILD, tmp_path / "child") as (own, below):
        made = Pair(tmp_path, top, above, own, below)
        async with made.client as client:
            await client.apply(tier=Tier.SECONDARY, organisation="A works")
            await above.review(CHILD)
            await below.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
            yield await made.begin()


async def test_before_its_prefix_is_allocated_above_all_is_owed_and_then_pushed_deletions_too(pair: Pair) -> None:
    await pair.register(row("A"), row("B"), row("C", "1"))
    await pair.push()
    await pair.register(deletion("B"), row("C", "2"))
    await pair.push()
    assert list(pair.pushing.mark.owed) == [CHILD]
    assert await pair.names("88.111/A", "88.111/B", "88.111/C") == ["nothing"] * 3
    # Started anew in between, and refused again: nothing of that is forgotten.
    await (await pair.begin()).push_later()
    assert list(pair.pushing.mark.owed) == [CHILD]
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.push_later()
    assert await pair.names("88.111/A", "88.111/B", "88.111/C") == ["first", "nothing", "2"]
    assert pair.pushing.mark.owed == {}
    held = await pair.above.prefix(CHILD)
    assert held.endpoints == (ENDPOINT,)
    assert [line for line in pair.refused() if '"op":"route"' not in line] == []


class LosingClient(RegistryClient):
    """Hears nothing of requests about identifiers; they arrive above, or are on their way for long."""

    def __init__(self, address: str, signer: Signer, *, arrive: bool) -> None:
        super().__init__(address, signer)
        self.lost: list[Draft] = []
        self._arrive = arrive

    async def send(self, draft: Draft, *, also: PrivateKey | None = None) -> Submitted:
        if draft.kind != "identifiers.v1":
            return await super().send(draft, also=also)
        self.lost.append(draft)
        if self._arrive:
            await super().send(draft)
        raise Fault(Reason.DEADLINE_SPENT)


@pytest.mark.parametrize("arrive", [True, False])
async def test_a_request_that_was_given_up_and_comes_late_changes_nothing_that_is_newer(
    pair: Pair, *, arrive: bool
) -> None:
    """Whether it was taken or not: what the child holds now is what is there at the end."""
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.register(row("A"), row("B"))
    good = pair.client
    async with LosingClient(f"unix:{pair.folder / 'top'}.sock", Signer(CHILD, pair.key), arrive=arrive) as losing:
        pair.client = losing
        await pair.begin()
        with pytest.raises(Fault):
            await pair.push()
        await pair.register(row("A", "second"))
        with pytest.raises(Fault):
            await pair.push()
        lost = losing.lost
    await pair.register(row("A", "third"))
    pair.client = good
    await (await pair.begin()).push()
    assert await pair.names("88.111/A", "88.111/B") == ["third", "first"]
    assert len({draft.body for draft in lost}) == 2
    for draft in lost:
        with suppress(Fault):
            assert (await good.send(draft)).is_repeated
    assert await pair.names("88.111/A", "88.111/B") == ["third", "first"]


async def test_what_changes_while_the_prefix_is_disabled_above_is_made_up_for(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.register(row("A"), row("B"), row("C"))
    await pair.push()
    assert await pair.names("88.111/A", "88.111/B", "88.111/C") == ["first"] * 3
    await pair.above.set_prefix_state(CHILD, PrefixState.DISABLED)
    await pair.register(deletion("A"), row("B", "second"))
    await pair.push()
    await pair.register(row("A", "third"), row("D"))
    await pair.push()
    await pair.register(deletion("A"))
    await pair.push()
    await pair.push_later()
    assert await pair.names("88.111/A", "88.111/B", "88.111/D") == ["first", "first", "nothing"]
    await pair.above.set_prefix_state(CHILD, PrefixState.ENABLED)
    await pair.push_later()
    assert await pair.names("88.111/A", "88.111/B", "88.111/C", "88.111/D") == ["deleted", "second", "first", "first"]
    assert (pair.pushing.mark.owed, pair.refused()) == ({}, [])


async def test_a_prefix_below_is_known_above_with_its_rule_before_what_is_registered_below_it(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.below.allocate([PrefixRow(prefix="88.111.7", holder=CHILD, case="sensitive")])
    await pair.register(row("a", "small", "88.111.7"), row("A", "large", "88.111.7"))
    await pair.push()
    assert await pair.names("88.111.7/a", "88.111.7/A") == ["small", "large"]
    await pair.below.set_prefix_state("88.111.7", PrefixState.DISABLED)
    await pair.push()
    assert (await pair.above.prefix("88.111.7")).state is PrefixState.DISABLED
    await pair.below.set_prefix_state("88.111.7", PrefixState.ENABLED)
    await pair.push()
    assert (await pair.above.prefix("88.111.7")).state is PrefixState.ENABLED


async def test_a_prefix_that_is_somebody_elses_above_holds_up_no_other(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD), PrefixRow(prefix="88.111.9", holder="top")])
    await pair.below.allocate([PrefixRow(prefix="88.111.9", holder=CHILD)])
    await pair.register(row("A", prefix="88.111.9"), row("A"))
    await pair.push()
    assert await pair.names("88.111/A", "88.111.9/A") == ["first", "nothing"]
    assert list(pair.pushing.mark.owed) == ["88.111.9"]
    await pair.push_later()
    await pair.push_later()
    assert [line for line in pair.refused() if "88.111.9" in line] == pair.refused()
    assert len(pair.refused()) == 1


async def test_a_suspended_node_waits_and_goes_on_where_it_was(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.push()
    await pair.above.suspend(CHILD, "an audit")
    await pair.register(row("A"))
    with pytest.raises(Fault) as caught:
        await pair.push()
    assert caught.value.reason is Reason.NODE_NOT_ENABLED
    await pair.above.resume(CHILD)
    await pair.push()
    assert await pair.names("88.111/A") == ["first"]


async def test_the_same_window_after_a_crash_is_the_same_request(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.push()
    await pair.register(row("A"))
    file = pair.folder / "upward.json"
    assert await pair.pushing.step()
    done = pair.pushing.mark
    # As it stood on the disk when the request was on its way.
    (before,) = await pair.own.store.statements(done.index - 2, 1)
    entry = sha256(before).hexdigest()
    await WatermarkFile(pair.folder).write(replace(done, index=done.index - 1, entry=entry))
    await pair.register(row("B"))
    entries = pair.top.journal.size
    await (await pair.begin()).pushing.step()
    assert pair.metrics.repeated._value.get() == 1
    assert pair.top.journal.size == entries
    await pair.push()
    assert await pair.names("88.111/A", "88.111/B") == ["first", "first"]
    assert file.exists()


async def test_a_journal_from_a_backup_that_has_grown_again_is_seen_to_be_another(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.register(row("A"))
    await pair.push()
    # As if the entry that was pushed had been another one, and what this one says had never been pushed.
    await pair.above.register([deletion("A")])
    mark = replace(pair.pushing.mark, entry="0" * 64)
    await WatermarkFile(pair.folder).write(mark)
    await (await pair.begin()).push()
    assert await pair.names("88.111/A") == ["first"]
    assert pair.pushing.mark.life != mark.life


async def test_a_node_above_that_has_forgotten_is_told_everything_again(pair: Pair) -> None:
    await pair.above.allocate([PrefixRow(prefix=CHILD, holder=CHILD)])
    await pair.register(row("A"), row("B"))
    await pair.push()
    # As if its journal had been restored from before: what the child pushed is not there.
    await pair.above.register([deletion("A")])
    life = pair.pushing.mark.life
    pair.pushing.tell_forgotten()
    await pair.push()
    assert pair.pushing.mark.life != life
    assert await pair.names("88.111/A", "88.111/B") == ["first", "first"]


async def test_an_application_says_what_is_set_about_a_takeover(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'top'}.sock"
    async with served("top", tmp_path / "top") as (_, operator):
        for node, agreement in ((CHILD, True), ("88.112", False)):
            key = PrivateKey.generate()
            settings = UpwardSettings(organisation="A works", agreement=agreement)
            async with RegistryClient(address, Signer(node, key)) as client:
                joining = Joining(
                    node=node, tier=Tier.SECONDARY, key=key, settings=settings, client=client, parent="top"
                )
                assert not await joining.is_enabled()
                await operator.review(node)
                assert await joining.is_enabled()
            assert (await operator.node(node)).agreement is agreement
