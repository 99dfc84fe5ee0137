"""The acts of the demo, in their order.

A node starts, is filled, is asked; the nodes below it start, and are asked through it; more join; one is killed and
comes back; all of it ends.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from msgspec import Struct
from rich.console import Console

from nodes.asking import answer_tables
from nodes.client import Client, Options
from nodes.demo import debian, findings, watching
from nodes.demo.asking import Asker, Measured, Verdicts
from nodes.demo.corpus import Corpus, Registration, registration_row
from nodes.demo.expectations import registered
from nodes.demo.failing import Failed, Failing
from nodes.demo.findings import Findings
from nodes.demo.joining import Joined, Joining
from nodes.demo.place import Place
from nodes.demo.questions import batches, everyday, referrals, special
from nodes.demo.registering import Registered, lines, register
from nodes.demo.shelf import Shelf
from nodes.demo.stage import WORKERS, Stage, stage
from nodes.demo.tiers import Running, Tiers, held_below
from nodes.demo.topology import moved, own_nodes
from nodes.demo.visibility import until_known
from nodes.demo.wuhan import PLANNED_NODES, SECONDARY_NODES, Secondary
from nodes.terminal import progress
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.clock import Clock
from resolver.query import Mode

ROUNDS: Final = ((1, 8, 5_000), (10, 8, 10_000), (100, 4, 30_000), (1_000, 2, 50_000))
"""Identifiers a call, calls at once, and identifiers in all."""

JOINING_SHARE: Final = 1_000
JOINING_LEAST: Final = 20
"""Each planned node brings a 1,000th of the registrations that were there, and no less than so many."""

_RECURSED_BATCH: Final = 100
_RECURSED_AT_ONCE: Final = 2

_BUSY_BATCH: Final = 100
_BUSY_PAUSE: Final = 0.02
"""While nodes join others go on asking: so many identifiers, then a pause of so many seconds."""


class Wishes(Struct, frozen=True, kw_only=True):
    """What is to be shown: how many registrations, and the machine's package index too where it has one.

    `keep`: leave the store there when it ends.
    """

    registrations: int
    packages: bool = True
    keep: bool = False


class Story:
    """One telling of the demo, on a console."""

    def __init__(self, wishes: Wishes, place: Place, clock: Clock, console: Console) -> None:
        self._wishes = wishes
        self._place = place
        self._clock = clock
        self._console = console
        self._corpus = Corpus(wishes.registrations)
        self._shelf = Shelf(place, wishes.registrations, clock)
        self._verdicts = Verdicts()
        self._acts = count(1)

    async def tell(self) -> Findings:
        """Run everything, and say what came of it.

        Raises:
            Fault: the node does not start, refuses a row, or there is no room on the disk.
        """
        began = self._clock.monotonic()
        with self._place.run(keep=self._wishes.keep) as folder:
            is_filled = self._shelf.take(folder / "data")
            async with stage(folder, self._clock) as on:
                found = await self._play(on, began, is_filled=is_filled)
            self._end(folder)
        return found

    async def _play(self, on: Stage, began: float, *, is_filled: bool) -> Findings:
        self._introduce(on)
        loaded = self._tell_kept() if is_filled else await self._load(on)
        asked = await self._ask(on)
        running = await self._bring_up(on)
        recursed = await self._ask_below(on)
        joined = await self._let_join(on)
        failed = await self._let_fail(on)
        packages = await self._add_packages(on) if self._wishes.packages else None
        found = Findings(
            registrations=len(self._corpus) + sum(each.registrations for each in joined) + _count(packages),
            prefixes=len(self._corpus.prefixes) + sum(1 + each.enterprises for each in joined) + bool(packages),
            loaded=loaded,
            asked=asked,
            running=running,
            recursed=recursed,
            joined=joined,
            failed=failed,
            packages=packages,
            node=await watching.look(on.node, on.data, on.below.processes),
            right=self._verdicts.right,
            wrong=self._verdicts.wrong,
            differences=self._verdicts.differences,
            seconds=self._clock.monotonic() - began,
        )
        self._look_back(found)
        return found

    # --- the acts ----------------------------------------------------------------------------------------------

    def _introduce(self, on: Stage) -> None:
        self._act(f"A top-level node: one writer, {WORKERS} resolvers on one port")
        self._say(on.node.to_text())
        self._console.print(findings.connected(SECONDARY_NODES))

    def _tell_kept(self) -> Registered | None:
        self._act(f"{len(self._corpus):,} registrations, made and registered by an earlier demo")
        self._say(f"out of the backup in {self._shelf.path}")
        return None

    async def _load(self, on: Stage) -> Registered:
        """Connect the nodes and let them register, and keep a backup of the store for the next time."""
        nodes = len(self._corpus.nodes) + len(self._corpus.enterprises)
        self._act(f"{nodes} nodes apply, are reviewed, get their prefixes, and register {len(self._corpus):,} things")
        began = self._clock.monotonic()
        for node in self._corpus.nodes:
            await on.registry.connect(node)
        self._say(f"connected in {self._clock.monotonic() - began:.1f} s, each with a key of its own")
        made = Registered()
        with _bar("registrations", len(self._corpus)) as tell:
            for enterprise, chunks in self._corpus.shares():
                client = await on.registry.client(enterprise.prefix)
                made += await register(client, lines(chunks), self._clock, tell)
        self._tell_registered(made)
        await self._until_known(on, self._corpus.registration(len(self._corpus) - 1))
        await asyncio.to_thread(self._shelf.put, on.data)
        self._say(f"a backup for the next demo is in {self._shelf.path}")
        return made

    async def _ask(self, on: Stage) -> list[Measured]:
        """Ask as callers do, in calls of several sizes, and then what is easily answered wrongly."""
        self._act("A client resolves, and every answer is compared with what was registered")
        asker = self._asker(on)
        asked, begin = [], 0
        for batch, in_flight, identifiers in ROUNDS:
            questions = everyday(self._corpus, min(identifiers, len(self._corpus)), begin)
            asked.append(await asker.measure(questions, batch=batch, in_flight=in_flight))
            begin += identifiers
        for few in batches(special(self._corpus), BATCH_IDENTIFIERS):
            await asker.ask(few)
        for few in batches(referrals(self._corpus, BATCH_IDENTIFIERS), BATCH_IDENTIFIERS):
            await asker.ask(few, Mode.REFERRAL)
        self._console.print(findings.asked(asked))
        await self._show_one(on, self._corpus.identifier(len(self._corpus) // 2))
        return asked

    async def _bring_up(self, on: Stage) -> Running:
        """Run the nodes of all that are connected, also of enterprises that had none, or one of another kind."""
        new = len(self._corpus.enterprises) - sum(len(own_nodes(node)) for node in self._corpus.nodes)
        self._corpus = Corpus(len(self._corpus), [moved(node) for node in self._corpus.nodes])
        nodes, enterprises = len(self._corpus.nodes), len(self._corpus.enterprises)
        self._act(f"The nodes below start: {nodes} secondary, and {enterprises} of enterprises, {new} of them new")
        with _bar("nodes below", nodes + enterprises, unit="nodes") as tell:
            running = await Tiers(on, self._clock, self._verdicts).bring_up(self._corpus, tell)
        self._say(
            f"{running.secondary_nodes + running.enterprise_nodes} nodes in {running.processes} processes, all "
            f"reached after {running.seconds:.1f} s; {running.registrations:,} things are registered down there"
        )
        self._say("what they registered here stays as copies; where they really are their routes say from now on")
        return running

    async def _ask_below(self, on: Stage) -> list[Measured]:
        """Ask the node for what it has to fetch below, each thing twice: the second time it knows."""
        self._act("A client asks the node above for what the nodes below hold (mode recursive)")
        asker, measured = self._asker(on), []
        for _ in range(2):
            questions = held_below(self._corpus)
            measured.append(
                await asker.measure(
                    questions, batch=_RECURSED_BATCH, in_flight=_RECURSED_AT_ONCE, mode=Mode.RECURSIVE
                )
            )
        self._console.print(findings.asked(measured, "Fetched from below, then asked for again"))
        return measured

    async def _show_one(self, on: Stage, identifier: str, mode: Mode = Mode.LOCAL) -> None:
        """Show what an answer holds and which way it took, as `topnode resolve --trace` does."""
        async with Client(on.node.address, clock=self._clock) as client:
            traced = await client.resolve_traced(identifier, Options(mode=mode))
        self._console.print(answer_tables.one(identifier, traced.answer))
        self._console.print(answer_tables.way(traced))

    async def _let_join(self, on: Stage) -> list[Joined]:
        """Let the planned nodes join, while others go on asking."""
        self._act(f"{len(PLANNED_NODES)} planned secondary nodes join while it runs and is asked")
        nodes = len(PLANNED_NODES) + sum(len(own_nodes(node)) for node in PLANNED_NODES)
        over = asyncio.Event()
        # No TaskGroup: a Fault of the joining is to come out as it is.
        busy = asyncio.ensure_future(self._be_busy(on, over))
        try:
            with _bar("nodes join", nodes, unit="nodes") as tell:
                joining = Joining(on, self._clock, self._verdicts)
                joined = await joining.join(PLANNED_NODES, self._joining_size, tell)
        finally:
            over.set()
            await busy
        self._console.print(findings.joined(joined))
        (third,) = own_nodes(PLANNED_NODES[0])
        corpus = self._joining_corpus(PLANNED_NODES[0])
        identifier = corpus.identifier(corpus.numbers(third)[1])
        self._say(f"through all tiers: topnode resolve {identifier} --mode recursive --trace\n")
        await self._show_one(on, identifier, Mode.RECURSIVE)
        return joined

    async def _let_fail(self, on: Stage) -> Failed:
        """Kill one of the nodes that joined, see what callers are told, and bring it back."""
        node = PLANNED_NODES[0]
        self._act(f"{node.prefix} {node.name} is killed, and comes back")
        # Plain where it is piped: then the table says it all, later.
        with self._console.status("") as waiting:
            failing = Failing(on, self._clock, self._verdicts)
            failed = await failing.fail(
                node, self._joining_corpus(node), lambda what: waiting.update(f"until {what}")
            )
        self._console.print(findings.failed(failed))
        return failed

    async def _add_packages(self, on: Stage) -> Registered | None:
        """Let one more enterprise register what nobody made for this: the packages of this Debian release."""
        index = await asyncio.to_thread(debian.read_index)
        if index is None:
            self._say("\nno package index on this machine, so no packages (apt-get update fetches one)")
            return None
        self._act(
            f"One more enterprise, {debian.ENTERPRISE.text}: the {len(index):,} packages that this machine knows"
        )
        packages = [debian.registration(stanza) for stanza in index]
        client = await on.registry.connect_alone(debian.ENTERPRISE, "Debian", parent=self._corpus.nodes[0].prefix)
        with _bar("packages", len(packages)) as tell:
            made = await register(client, map(registration_row, packages), self._clock, tell)
        self._tell_registered(made)
        await self._until_known(on, packages[-1])
        asker = self._asker(on)
        for few in batches(map(registered, packages), BATCH_IDENTIFIERS):
            await asker.ask(few)
        self._say(f"all {len(packages):,} resolved and compared")
        return made

    def _look_back(self, found: Findings) -> None:
        self._act("What was seen")
        self._console.print(findings.processes([*found.node.processes, *found.node.below]))
        self._console.print(findings.totals(found))
        for difference in found.differences:
            self._say(f"WRONG: {difference}", style="red")

    def _end(self, folder: Path) -> None:
        if self._wishes.keep:
            self._say(f"\nstopped; the store stays: topnode serve top --data {folder / 'data'}")
            return
        self._say(
            "\nstopped: no process, socket or temporary file of this is left; `topnode demo --clean` also removes "
            f"the backup in {self._place.folder}"
        )

    # --- what several acts need --------------------------------------------------------------------------------

    def _act(self, title: str) -> None:
        self._say(f"\n{next(self._acts)}  {title}", style="bold")

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(line, style=style, markup=False, soft_wrap=True)

    @property
    def _joining_size(self) -> int:
        return max(JOINING_LEAST, len(self._corpus) // JOINING_SHARE)

    def _joining_corpus(self, node: Secondary) -> Corpus:
        return Corpus(self._joining_size, [node])

    def _asker(self, on: Stage) -> Asker:
        return Asker(on.connections, self._clock, self._verdicts)

    def _tell_registered(self, made: Registered) -> None:
        self._say(
            f"{made.rows:,} registered in {made.seconds:.1f} s ({made.rate:,.0f} a second), in {made.receipts:,} "
            "signed requests; each was durable when it was answered, and its receipt was checked"
        )

    async def _until_known(self, on: Stage, last: Registration) -> None:
        """Wait until what was loaded, the last of it included, is known to every resolver."""
        known = await until_known(registered(last), on.connections, self._clock)
        self._verdicts.insist(last.identifier, known.breach)

    async def _be_busy(self, on: Stage, over: asyncio.Event) -> None:
        asker = self._asker(on)
        for few in batches(everyday(self._corpus, len(self._corpus)), _BUSY_BATCH):
            if over.is_set():
                return
            await asker.ask(few)
            await asyncio.sleep(_BUSY_PAUSE)


@contextmanager
def _bar(what: str, total: int, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """Show a bar; what it gives is told how many more are done."""
    with progress(unit=unit) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def _count(packages: Registered | None) -> int:
    return packages.rows if packages else 0
