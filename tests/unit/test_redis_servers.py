"""The Redis servers that tests start are what they say they are."""

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.running_node import is_running, wait_until
from tests.services.redis_servers import HOST, RedisServer, RedisTrio, SecuredRedis


@pytest.mark.needs("redis")
def test_a_server_serves_can_be_frozen_and_begins_empty_after_a_crash(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("a", "1")
    redis_server.pause()
    with redis_server.client(socket_timeout=0.05) as client, pytest.raises(redis.TimeoutError):
        client.get("a")
    redis_server.resume()
    with redis_server.client() as client:
        assert client.get("a") == b"1"
    redis_server.kill()
    with redis_server.client() as client, pytest.raises(redis.ConnectionError):
        client.get("a")
    redis_server.start()
    with redis_server.client() as client:
        assert client.get("a") is None


@pytest.mark.needs("redis")
def test_a_server_that_was_frozen_is_stopped(redis_server: RedisServer) -> None:
    redis_server.pause()
    pid = redis_server.pid
    redis_server.stop()
    assert not is_running(pid)


@pytest.mark.needs("redis-tls")
def test_a_secured_server_wants_tls_a_user_and_the_password(secured_redis: SecuredRedis) -> None:
    server = secured_redis.server
    named = {"username": secured_redis.user, "password": secured_redis.password.read_text().strip()}
    with server.client(**named) as client:
        client.set("a", "1")
        with pytest.raises(NoPermissionError):
            client.execute_command("CONFIG", "GET", "maxmemory")
    with server.client(**named | {"password": "wrong"}) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with server.client(ssl=False) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    secured_redis.forget_password()
    with server.client(**named) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.needs("redis")
def test_a_sentinel_makes_the_replica_the_primary(redis_trio: RedisTrio) -> None:
    assert redis_trio.current() == redis_trio.primary.port
    with redis_trio.primary.client() as client:
        client.set("a", "1")
        assert client.wait(1, 5000) == 1
    redis_trio.primary.kill()
    wait_until(lambda: redis_trio.current() == redis_trio.replica.port, what="the fail-over")
    with redis_trio.replica.client() as client:
        assert client.get("a") == b"1"


@pytest.mark.needs("redis")
def test_a_cluster_shares_the_slots_and_serves_the_rest_while_one_is_gone(
    redis_cluster: tuple[RedisServer, ...],
) -> None:
    first, second, third = redis_cluster
    with redis.RedisCluster(HOST, second.port) as cluster:
        for number in range(100):
            cluster.set(f"key:{number}", number)
    first.kill()
    kept = 0
    for server in (second, third):
        with server.client() as client:
            kept += (own := client.dbsize())
            assert own
            assert client.get(client.randomkey())
    assert kept < 100
