"""What happens to callers, metrics and the log when a real Redis fails in every way, and when it is back.

Callers never see an error, and never what was changed before they asked: Redis is asked again when it works, and what
it forgot meanwhile, or did not hear of, is not believed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver.cache.redis import RedisCache, RedisSettings
from resolver.cache.redis.cache import ENTRY_MAX
from resolver.cache.redis.layout import Layout
from resolver.cache.redis.settings import RedisTls
from resolver.clock import SystemClock
from resolver.marking import Marking
from resolver.routes import Prefix
from resolver.shelves import Fill
from resolver.units import Duration
from tests.certificates import Authority
from tests.services import redis_servers
from tests.services.delaying import delaying
from tests.services.redis_servers import RedisServer, RedisTrio, SecuredRedis
from tests.shared_caches import is_reached, running, until
from tests.shared_resolver import Replicas, SharedResolver, versions
from tests.small_store import body

pytestmark = pytest.mark.needs("redis")

KEYS = [b"88.100/%d" % number for number in range(64)]
A, B = KEYS[:2]


class Scene:
    """A store, the cache as the writer has it, and as a resolver has it: each with connections of its own."""

    def __init__(self, settings: RedisSettings) -> None:
        # Machines that test are busy: what is late there is later than elsewhere.
        self.settings = replace(settings, deadline=Duration(0.25), rest=Duration(0.1), connect_within=Duration(0.5))
        self.registry = CollectorRegistry()
        self.store = Replicas()
        self.store.commit(prefixes=[Prefix("88.100", "h")])
        self.cache = RedisCache(self.settings, clock=SystemClock(), registry=self.registry)
        self.own = RedisCache(self.settings, clock=SystemClock(), registry=CollectorRegistry())
        self.marking = Marking(self.store, self.own, Duration(0.2), CollectorRegistry())
        self.resolver = SharedResolver(self.store, self.cache)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect, mark, and have the resolver know all keys, and Redis hold them."""
        async with running(self.cache), running(self.own):
            await until(lambda: is_reached(self.cache), "Redis")
            self.write(*KEYS)
            await self.mark()
            await self.resolver.following.start()
            keeping = asyncio.create_task(self.resolver.records.run())
            await self.until_shared(*KEYS)
            try:
                yield
            finally:
                keeping.cancel()

    def write(self, *keys: bytes) -> int:
        index = self.store.index + 1
        return self.store.commit({key: body(key.decode(), index) for key in keys})

    async def change(self, *keys: bytes) -> int:
        """Write, and have the resolver follow."""
        index = self.write(*keys)
        await self.resolver.following.catch_up()
        return index

    async def mark(self) -> None:
        await until(self.marking.catch_up, "marks")

    async def another(self) -> SharedResolver:
        """A resolver that begins now: it remembers nothing."""
        made = SharedResolver(self.store, self.cache)
        await made.following.start()
        return made

    async def until_shared(self, *keys: bytes) -> None:
        """Read until Redis answers for all of these."""

        async def is_shared() -> bool:
            return (await self.resolver.records.public(keys)).shared == len(keys)

        await until(is_shared, "an answer of Redis for everything")

    async def until_left_alone(self, count: int = 1) -> None:
        """Read until so many servers are not asked any more. Every answer is right meanwhile."""
        expected = await self.expected()

        async def is_left_alone() -> bool:
            assert await self.resolver.read(*KEYS) == expected
            return self.sample("topnode_redis_left_alone") == count

        await until(is_left_alone, "a server that is left alone")

    async def expected(self) -> list[int | None]:
        """The versions that are true now."""
        return versions(await self.store.public(KEYS, confirmed=True))

    async def check(self) -> None:
        """See that the resolver, and one that begins now, are given what is true."""
        expected = await self.expected()
        for resolver in (self.resolver, await self.another()):
            assert await resolver.read(*KEYS) == expected

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0

    def failures(self, kind: str) -> float:
        return self.sample("topnode_redis_failures_total", kind=kind)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


async def aside(act: Callable[[], None]) -> None:
    """Do to a server what takes a while, without holding up the event loop."""
    await asyncio.to_thread(act)


async def test_killed(redis_server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    scene = Scene(RedisSettings(address=redis_server.address))
    async with scene.open():
        redis_server.kill()
        await scene.until_left_alone()
        assert scene.failures("refused") > 0
        assert f"Redis: {redis_server.address}: refused" in log.text
        await scene.change(A)
        await scene.check()
        await aside(redis_server.start)
        await scene.check()
        await scene.mark()
        await scene.until_shared(*KEYS)
        await scene.check()
        assert scene.sample("topnode_redis_left_alone") == 0
        assert f"Redis: {redis_server.address} works again: no refused any more" in log.text


async def test_frozen(redis_server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    scene = Scene(RedisSettings(address=redis_server.address))
    async with scene.open():
        redis_server.pause()
        await scene.until_left_alone()
        assert scene.failures("timeout") >= 3
        assert f"Redis: {redis_server.address}: timeout: no answer within 0.25 s" in log.text
        assert f"Redis: {redis_server.address} is left alone" in log.text
        await scene.change(A)
        await scene.check()
        redis_server.resume()
        await until(lambda: is_reached(scene.cache), "Redis")
        # It still has what was there before, and does not know of the change.
        await scene.check()
        await scene.mark()
        await scene.until_shared(*KEYS)
        await scene.check()
        assert scene.sample("topnode_redis_left_alone") == 0


async def test_out_of_memory(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    with redis_servers.redis_server(tmp_path / "redis", "maxmemory 4mb", "maxmemory-policy noeviction") as server:
        scene = Scene(RedisSettings(address=server.address))
        async with scene.open():
            with server.client() as admin:
                admin.config_set("maxmemory", "1mb")
                await scene.change(A)
                await scene.check()
                await until(lambda: _is_more(lambda: scene.failures("oom"), 0), "a refusal")
                assert f"Redis: {server.address}: oom" in log.text
                # Reading goes on; what cannot be marked is not believed by who cannot know of it.
                assert (await scene.resolver.records.public([B])).shared == 1
                assert not await scene.marking.catch_up()
                late = await scene.another()
                assert await late.read(A, B) == (await scene.expected())[:2]
                assert late.records.lookups["hit"] == 0
                assert scene.sample("topnode_redis_left_alone") == 0
                admin.config_set("maxmemory", "0")
            await scene.mark()
            await scene.until_shared(*KEYS)
            await scene.check()
            assert f"Redis: {server.address} works again: no oom any more" in log.text


async def _is_more(give: Callable[[], float], than: float) -> bool:
    return give() > than


@pytest.mark.needs("redis-tls")
async def test_wrong_password(secured_redis: SecuredRedis, log: pytest.LogCaptureFixture) -> None:
    address = f"{secured_redis.name}:{secured_redis.server.port}"
    scene = Scene(
        RedisSettings(
            address=address,
            user=secured_redis.user,
            password_file=str(secured_redis.password),
            tls=RedisTls(server_ca=secured_redis.authority),
        )
    )
    async with scene.open():
        secured_redis.forget_password()
        await scene.until_left_alone()
        await until(lambda: _is_more(lambda: scene.failures("auth"), 0), "a refused login")
        assert f"Redis: {address}: auth" in log.text
        assert "horse" not in log.text
        await scene.change(A)
        await scene.check()
        secured_redis.password.write_text("another\n")
        await scene.mark()
        await scene.until_shared(*KEYS)
        await scene.check()


@pytest.mark.needs("redis-tls")
async def test_an_authority_that_did_not_sign_the_servers_certificate_is_not_believed(
    secured_redis: SecuredRedis, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    scene = Scene(
        RedisSettings(
            address=f"{secured_redis.name}:{secured_redis.server.port}",
            user=secured_redis.user,
            password_file=str(secured_redis.password),
            tls=RedisTls(server_ca=other.path),
        )
    )
    async with running(scene.cache):
        await until(lambda: _is_more(lambda: scene.failures("refused"), 0), "a refused certificate")
        assert not await is_reached(scene.cache)


@pytest.mark.parametrize("has_forgotten", [False, True])
async def test_fail_over(redis_trio: RedisTrio, log: pytest.LogCaptureFixture, *, has_forgotten: bool) -> None:
    """To a replica that has everything, or to one that has missed the last markers."""
    primary = redis_trio.primary
    scene = Scene(RedisSettings(sentinels=(redis_trio.sentinel.address,), master=redis_trio.master))
    async with scene.open():
        with primary.client() as admin:
            if has_forgotten:
                # Frozen alone, it would still find in its socket what was sent to it.
                redis_trio.replica.pause()
                admin.execute_command("CLIENT", "KILL", "TYPE", "replica")
            index = await scene.change(A)
            await scene.mark()
            assert has_forgotten or admin.wait(1, 20_000)
        primary.kill()
        redis_trio.replica.resume()
        await scene.until_left_alone()
        await scene.check()
        await until(lambda: is_reached(scene.own), "the new primary", 60)
        assert redis_trio.current() == redis_trio.replica.port
        marked = await scene.own.marked()
        assert (marked == index) is not has_forgotten
        await until(lambda: is_reached(scene.cache), "the new primary", 60)
        await scene.check()
        await scene.mark()
        await scene.until_shared(*KEYS)
        await scene.check()
        assert f"Redis: {primary.address}: refused" in log.text


async def test_slow(redis_server: RedisServer, log: pytest.LogCaptureFixture) -> None:
    async with delaying("127.0.0.1", redis_server.port) as proxy:
        scene = Scene(RedisSettings(address=proxy.address))
        async with scene.open():
            proxy.seconds = 0.4
            await scene.until_left_alone()
            assert scene.failures("timeout") >= 3
            assert f"Redis: {proxy.address}: timeout" in log.text
            await scene.change(A)
            await scene.check()
            proxy.seconds = 0
            await until(lambda: is_reached(scene.cache), "Redis")
            await scene.check()
            await scene.mark()
            await scene.until_shared(*KEYS)
            await scene.check()


async def test_while_a_server_is_slow_callers_do_not_wait_for_it(redis_server: RedisServer) -> None:
    """The trial of whether it is fast again is nobody's call."""
    async with delaying("127.0.0.1", redis_server.port) as proxy:
        scene = Scene(RedisSettings(address=proxy.address))
        async with scene.open():
            proxy.seconds = 0.4
            await scene.until_left_alone()
            failed = scene.failures("timeout")
            before = scene.resolver.records.lookups["bypassed"]
            await until(lambda: _is_more(lambda: scene.failures("timeout"), failed + 1), "two trials")
            await scene.check()
            assert scene.resolver.records.lookups["bypassed"] > before
            assert scene.sample("topnode_redis_left_alone") == 1


async def test_one_server_of_a_cluster_is_killed(redis_cluster: tuple[RedisServer, ...]) -> None:
    first, *_, last = redis_cluster
    scene = Scene(RedisSettings(address=first.address, cluster=True))
    async with scene.open():
        last.kill()
        await scene.until_left_alone()
        # What lies on the others is answered by them.
        assert 0 < (await scene.resolver.records.public(KEYS)).shared < len(KEYS)
        await scene.change(*KEYS[:8])
        await scene.check()
        await aside(last.start)
        await scene.check()
        await scene.mark()
        await scene.until_shared(*KEYS)
        await scene.check()


async def test_a_shelf_of_a_cluster_moves(redis_cluster: tuple[RedisServer, ...]) -> None:
    scene = Scene(RedisSettings(address=redis_cluster[0].address, cluster=True))
    async with scene.open():
        tag = Layout.of(scene.settings).tags[0]
        move(tag, redis_cluster)
        await scene.change(*KEYS)
        await scene.check()
        await scene.mark()
        await scene.until_shared(*KEYS)
        await scene.check()
        assert scene.failures("moved") > 0


def move(tag: bytes, servers: tuple[RedisServer, ...]) -> None:
    """Move the slot of a tag, with all that is in it, from its server to another one."""
    with ExitStack() as stack:
        clients = {server.port: stack.enter_context(server.client()) for server in servers}
        slot = clients[servers[0].port].execute_command("CLUSTER", "KEYSLOT", tag)
        names = {port: client.execute_command("CLUSTER", "MYID") for port, client in clients.items()}
        (source,) = [
            port for port, each in clients.items() if each.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
        ]
        target = next(port for port in clients if port != source)
        clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
        while keys := clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            clients[source].execute_command("MIGRATE", "127.0.0.1", target, "", 0, 5_000, "KEYS", *keys)
        for port in (target, source):
            clients[port].execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[target])


async def test_what_is_published_wakes_who_listens_also_after_the_server_was_gone(redis_server: RedisServer) -> None:
    scene = Scene(RedisSettings(address=redis_server.address))
    heard: list[int] = []
    async with running(scene.cache), running(scene.own):
        hearing = asyncio.create_task(scene.cache.hear(heard.append))

        async def is_heard(index: int) -> bool:
            await scene.own.publish(index)
            return index in heard

        await until(lambda: is_heard(1), "what is published")
        assert scene.sample("topnode_redis_heard_total") == len(heard)
        redis_server.kill()
        await aside(redis_server.start)
        await until(lambda: is_heard(2), "what is published")
        hearing.cancel()


async def test_what_has_no_room_is_dropped_and_what_is_older_is_refused_and_all_is_counted(
    redis_server: RedisServer,
) -> None:
    scene = Scene(RedisSettings(address=redis_server.address, absent_entries=3))
    async with scene.open():
        kept = scene.sample("topnode_redis_fills_total", verdict="kept")
        assert kept >= len(KEYS)
        (shelf,) = await scene.cache.get([A])
        assert shelf.state
        era, index = shelf.state.era, scene.store.index
        absences = [Fill(b"88.100/no%d" % number, None, 0, index, era) for number in range(5)]
        large = [
            Fill(b"88.100/large", b"x" * (ENTRY_MAX + 1), index, index, era),
            Fill(b"88.100/largest", b"x" * ENTRY_MAX, index, index, era),
        ]
        older = [Fill(A, b"older", 1, index, era)]
        await scene.cache.fill([*absences, *large, *older])
        counts = {each: scene.sample("topnode_redis_fills_total", verdict=each) for each in ("refused", "dropped")}
        assert scene.sample("topnode_redis_fills_total", verdict="kept") == kept + 4
        assert counts == {"refused": 1, "dropped": 3}
