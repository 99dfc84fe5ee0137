"""Records through a shared cache against a model that knows what each key must answer, in any order of events.

Resolvers are late, begin anew and forget; what they read is kept late or never; marking is late. In one machine the
cache is lost, goes back to an earlier state and is out of reach; in the other the nearest replica misses writes. The
model: what a resolver is given was true at some moment at or after the last change that it followed. So nothing is
stale for longer than a resolver is behind the feed.
"""

import asyncio
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from prometheus_client import CollectorRegistry

from resolver.marking import Marking
from resolver.routes import Prefix
from resolver.units import Duration
from tests.shared_resolver import Replicas, SharedResolver, versions
from tests.small_shelves import SmallShelves
from tests.small_store import body

KEYS = [b"88.100/A", b"88.100/B", b"88.200/C"]
SOME = st.lists(st.sampled_from(KEYS), min_size=1, unique=True)
WHO = st.integers(0, 1)


class SharedMachine(RuleBasedStateMachine):
    """A store, a shared cache with its marking, and two resolvers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store, self.shelves = Replicas(), SmallShelves()
        self.store.commit(prefixes=[Prefix("88.100", "h"), Prefix("88.200", "h")])
        self.changed: dict[bytes, list[int]] = {key: [0] for key in KEYS}
        self.marking = self.new_marking()
        self.resolvers = [self.new_resolver() for _ in range(2)]
        self.mark()

    def teardown(self) -> None:
        self.runner.close()

    def run(self, act: Any) -> Any:
        return self.runner.run(act)

    def new_marking(self) -> Marking:
        return Marking(self.store, self.shelves, Duration(0.2), CollectorRegistry())

    def new_resolver(self) -> SharedResolver:
        made = SharedResolver(self.store, self.shelves)
        self.run(made.following.start())
        return made

    def version(self, key: bytes, as_of: int) -> int:
        return max(each for each in self.changed[key] if each <= as_of)

    def note(self, keys: list[bytes]) -> dict[bytes, bytes | None]:
        index = self.store.index + 1
        for key in keys:
            self.changed[key].append(index)
        return {key: body(key.decode(), index) for key in keys}

    @rule(keys=SOME)
    def write(self, keys: list[bytes]) -> None:
        self.store.commit(self.note(keys))
        self.store.missed = {key: held for key, held in self.store.missed.items() if key not in keys}

    @rule(prefix=st.sampled_from([b"88.100", b"88.200"]), keys=SOME)
    def load(self, prefix: bytes, keys: list[bytes]) -> None:
        """Change records without naming them."""
        below = [key for key in keys if key.startswith(prefix)]
        self.store.commit(self.note(below), below=[prefix])
        self.store.missed = {key: held for key, held in self.store.missed.items() if key not in below}

    @rule()
    def mark(self) -> None:
        self.run(self.marking.catch_up())

    @rule()
    def another_writer_marks(self) -> None:
        self.marking = self.new_marking()

    @rule(who=WHO)
    def follow(self, who: int) -> None:
        self.run(self.resolvers[who].following.catch_up())

    @rule(who=WHO)
    def begin_anew(self, who: int) -> None:
        self.resolvers[who] = self.new_resolver()

    @rule(who=WHO)
    def forget_changes_one_by_one(self, who: int) -> None:
        """As with very many of them."""
        resolver = self.resolvers[who]
        resolver.memory._markers.clear()
        resolver.memory._floor = resolver.following.applied

    @rule(who=WHO, count=st.integers(1, 4))
    def keep(self, who: int, count: int) -> None:
        fills = self.resolvers[who].records._fills
        self.run(self.shelves.fill([fills.popleft() for _ in range(min(count, len(fills)))]))

    @rule(who=WHO)
    def read_and_keep(self, who: int) -> None:
        self.read(who, KEYS, 0)
        self.keep(who, 100)

    @rule(who=WHO, keys=SOME, lag=st.integers(0, 2))
    def read(self, who: int, keys: list[bytes], lag: int) -> None:
        resolver = self.resolvers[who]
        self.store.lag = lag
        followed = resolver.following.applied
        may_be_stale = self.is_lenient(resolver)
        fetched = self.run(resolver.records.public(keys))
        for key, given in zip(keys, versions(fetched), strict=True):
            version = given or 0
            assert version in self.changed[key]
            if not may_be_stale:
                assert version >= self.version(key, followed)
                assert version >= self.version(key, fetched.as_of)

    def is_lenient(self, _: SharedResolver) -> bool:
        return False


class LosingMachine(SharedMachine):
    """The cache forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshots = [self.shelves.snapshot()]

    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append(self.shelves.snapshot())

    @rule(number=st.integers(0, 20))
    def go_back(self, number: int) -> None:
        self.shelves.go_back(self.snapshots[number % len(self.snapshots)])

    @rule()
    def lose(self) -> None:
        self.shelves.lose()

    @rule()
    def go_away_and_come_back(self) -> None:
        self.shelves.is_away = not self.shelves.is_away


class MissingMachine(SharedMachine):
    """The nearest replica misses writes. Only who cannot know of any markers may be given what it says."""

    @rule(key=st.sampled_from(KEYS))
    def miss_a_write(self, key: bytes) -> None:
        if key in self.store._records:
            self.store.missed.setdefault(key, self.store._records[key])
        self.store.commit(self.note([key]))

    @precondition(lambda self: self.store.missed)
    @rule()
    def mend(self) -> None:
        self.store.missed.clear()

    def is_lenient(self, resolver: SharedResolver) -> bool:
        marked = self.run(self.shelves.marked())
        return bool(self.store.missed) and marked < resolver.memory.floor


_EFFORT = hypothesis_settings(max_examples=150, stateful_step_count=50, deadline=None)

TestTheCacheForgets = LosingMachine.TestCase
TestTheCacheForgets.settings = _EFFORT

TestAReplicaMissesWrites = MissingMachine.TestCase
TestAReplicaMissesWrites.settings = _EFFORT
