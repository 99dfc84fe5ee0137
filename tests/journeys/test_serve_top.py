"""`topnode serve top` as an operator runs it: real processes and sockets, kills, signals and second nodes."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client.parser import text_string_to_metric_families

from resolver.errors import Fault
from resolver.v1 import resolver_pb2 as pb
from tests.certificates import Authority
from tests.running_node import RunningNode, children_of, is_running, wait_until

TopNode = Callable[..., RunningNode]

PREFIX = {"prefix": "88.111", "holder": "88.111"}
CONNECTIONS = 12


def row(number: int) -> dict[str, object]:
    return {
        "identifier": f"88.111/SN-{number}",
        "values": [{"index": 1, "type": "URL", "data": f"https://x/{number}"}],
    }


def samples(node: RunningNode, name: str) -> dict[tuple[str, str], float]:
    """A counter by worker and method."""
    text = node.get("/metrics")[1]
    return {
        (sample.labels.get("worker", ""), sample.labels.get("method", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def resolved_by(node: RunningNode) -> set[str]:
    """The workers that have answered a Resolve."""
    calls = samples(node, "topnode_resolver_calls_total")
    return {worker for (worker, method), count in calls.items() if method == "Resolve" and count}


def kill_successor(node: RunningNode, name: str, killed: int) -> int:
    """Wait until a process has a successor, kill that, and give its number."""
    wait_until(lambda: node.pids()[name] not in (0, killed))
    successor = node.pids()[name]
    os.kill(successor, signal.SIGKILL)
    return successor


def assert_service_goes_on(node: RunningNode, identifier: str) -> None:
    """What fails because its process died is answered when it is asked once more."""
    for _ in range(20):
        try:
            answer = node.resolve(identifier)
        except Fault:
            # Until the system has taken all of that process down, connections still go to it.
            time.sleep(0.2)
            answer = node.resolve(identifier)
        assert answer.outcome == pb.OUTCOME_FOUND


def wait_known_everywhere(node: RunningNode, index: int) -> None:
    """Wait until every worker has applied what was committed up to this index."""
    wait_until(
        lambda: all(
            applied >= index
            for (worker, _), applied in samples(node, "topnode_following_applied_index").items()
            if worker.startswith("worker-")
        ),
        5,
    )


async def test_a_write_is_seen_by_every_worker_within_a_second(top_node: TopNode) -> None:
    node = top_node(workers=2)
    assert node.started.workers == 2
    await node.load(PREFIX, row(1))
    with ExitStack() as opened:
        channels = [opened.enter_context(node.channel()) for _ in range(CONNECTIONS)]
        wait_until(lambda: all(node.resolve("88.111/SN-1", each).version for each in channels), 5)
        assert resolved_by(node) == {"worker-0", "worker-1"}
        # Absent before, so that what is remembered of it must go.
        assert {node.resolve("88.111/sn-2", each).outcome for each in channels} == {pb.OUTCOME_ABSENT}
        await node.load(row(2), name="second")
        took = wait_until(
            lambda: {node.resolve("88.111/sn-2", each).outcome for each in channels} == {pb.OUTCOME_FOUND}, 5
        )
        assert took < 1
    assert node.stop() == 0


async def test_metrics_of_every_process_are_at_the_admin_endpoint(top_node: TopNode) -> None:
    node = top_node(workers=2)
    node.comes_to("serving", "prober")
    status, text = node.get("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    memory = families["topnode_process_resident_memory_bytes"]
    told = {sample.labels["worker"]: sample.value for sample in memory.samples}
    assert set(told) == {"supervisor", "owner", "worker-0", "worker-1", "prober"}
    assert all(told.values())
    assert families["topnode_supervisor_children_up"].samples[0].value == 4
    assert "_created" not in text
    assert node.get("/healthz") == (200, "alive\n")


async def test_a_killed_worker_is_started_again_and_service_goes_on(top_node: TopNode) -> None:
    node = top_node(workers=2)
    wait_known_everywhere(node, (await node.load(PREFIX, row(1))).index)
    killed = node.pids()["worker-0"]
    os.kill(killed, signal.SIGKILL)
    assert_service_goes_on(node, "88.111/SN-1")
    wait_until(lambda: node.pids()["worker-0"] not in (0, killed) and node.conditions()["worker-0"] == "serving")
    assert samples(node, "topnode_supervisor_restarts_total")["worker-0", ""] == 1
    assert samples(node, "topnode_supervisor_restarts_total")["worker-1", ""] == 0
    assert_service_goes_on(node, "88.111/SN-1")
    assert "cause=signal SIGKILL" in node.log.read_text()


async def test_a_killed_owner_is_started_again_and_takes_writes(top_node: TopNode) -> None:
    node = top_node(workers=1)
    await node.load(PREFIX, row(1))
    wait_until(lambda: node.resolve("88.111/SN-1").outcome == pb.OUTCOME_FOUND, 5)
    killed = node.pids()["owner"]
    os.kill(killed, signal.SIGKILL)
    assert node.resolve("88.111/SN-1").outcome == pb.OUTCOME_FOUND
    wait_until(lambda: node.pids()["owner"] not in (0, killed) and node.conditions()["owner"] == "serving")
    await node.load(row(2), name="second")
    wait_until(lambda: node.resolve("88.111/SN-2").outcome == pb.OUTCOME_FOUND, 5)
    assert node.get("/readyz")[0] == 200


def test_a_stopped_worker_is_left_out_and_counted(top_node: TopNode) -> None:
    node = top_node(workers=2)
    node.comes_to("serving", "prober")
    stopped = node.pids()["worker-1"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert node.conditions() == {
            "owner": "serving",
            "worker-0": "serving",
            "worker-1": "silent",
            "prober": "serving",
        }
        assert node.get("/readyz")[0] == 200
        told = samples(node, "topnode_process_resident_memory_bytes")
        assert {worker for worker, _ in told} == {"supervisor", "owner", "worker-0", "prober"}
        assert samples(node, "topnode_supervisor_scrape_failures_total")["worker-1", ""] >= 1
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: node.conditions()["worker-1"] == "serving")


def test_without_resolver_or_owner_it_is_not_ready(top_node: TopNode) -> None:
    node = top_node(workers=1)
    for name in ("worker-0", "owner"):
        stopped = node.pids()[name]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert node.get("/readyz")[0] == 503
            assert node.get("/healthz")[0] == 200
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: node.get("/readyz")[0] == 200)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_says_so_finishes_and_leaves_nothing(
    top_node: TopNode, workers: int, number: signal.Signals
) -> None:
    node = top_node(workers=workers)
    pids = {node.pid, *children_of(node.pid)}
    # The supervisor, the owner, the prober.
    assert len(pids) == (3 + workers if workers else 1)
    said: list[int] = []
    with node.streaming_channel() as channel, ThreadPoolExecutor(1) as reader:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        reading = reader.submit(lambda: said.extend(each.status for each in watch))
        wait_until(lambda: bool(said))
        node.signal(number)
        reading.result(20)
    assert said == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert node.wait_ended() == 0
    assert [pid for pid in pids if is_running(pid)] == []
    assert list((node.data / "run").glob("*")) == []


@contextmanager
def call_in_flight(node: RunningNode) -> Iterator[None]:
    """A call that its caller does not end."""
    requests: SimpleQueue[reflection_pb2.ServerReflectionRequest | None] = SimpleQueue()
    with node.streaming_channel() as channel:
        answers = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )(iter(requests.get, None))
        requests.put(reflection_pb2.ServerReflectionRequest(list_services=""))
        next(answers)
        try:
            yield
        finally:
            requests.put(None)


@pytest.mark.parametrize("workers", [0, 1])
def test_calls_in_flight_have_the_grace_and_no_more(top_node: TopNode, workers: int) -> None:
    node = top_node(workers=workers, TOPNODE_SERVING__DRAIN_GRACE="1s")
    with call_in_flight(node):
        began = time.monotonic()
        assert node.stop() == 0
        assert 1 <= time.monotonic() - began < 10


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_interrupt_ends_it_at_once(top_node: TopNode, workers: int) -> None:
    node = top_node(workers=workers, TOPNODE_SERVING__DRAIN_GRACE="60s")
    pids = {node.pid, *children_of(node.pid)}
    with call_in_flight(node):
        node.signal(signal.SIGINT)
        wait_until(lambda: node.get("/readyz")[0] == 503)
        assert node.process.poll() is None
        node.signal(signal.SIGINT)
        assert node.wait_ended(10) == 130
    assert [pid for pid in pids if is_running(pid)] == []


def test_when_the_supervisor_is_killed_its_processes_end(top_node: TopNode) -> None:
    node = top_node(workers=2)
    pids = children_of(node.pid)
    assert len(pids) == 4
    node.process.kill()
    wait_until(lambda: not any(map(is_running, pids)), 10)


async def test_after_a_kill_of_everything_the_next_node_starts_and_clears_up(top_node: TopNode) -> None:
    node = top_node(workers=1)
    await node.load(PREFIX, row(1))
    for pid in (node.pid, *children_of(node.pid)):
        os.kill(pid, signal.SIGKILL)
    node.wait_ended()
    (left,) = (node.data / "run").iterdir()
    after = top_node(workers=1)
    wait_until(lambda: after.resolve("88.111/SN-1").outcome == pb.OUTCOME_FOUND, 5)
    assert not left.exists()


def test_sighup_ends_nothing_and_is_logged(top_node: TopNode) -> None:
    node = top_node(workers=1)
    pids = node.pids()
    node.signal(signal.SIGHUP)
    wait_until(lambda: "SIGHUP" in node.log.read_text())
    assert node.pids() == pids
    assert node.get("/readyz")[0] == 200


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_node_on_one_store_is_told_who_has_it(top_node: TopNode, workers: int) -> None:
    first = top_node(workers=1)
    second = top_node(workers=workers, ready=False)
    assert second.wait_ended() == 1
    said = second.log.read_text()
    assert "STORE_OWNED" in said
    assert f"process {first.pids()['owner']}" in said
    assert f"when process {first.pid} is ended" in said
    assert "since 20" in said
    assert first.get("/readyz")[0] == 200
    assert len(list((first.data / "run").iterdir())) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_port_that_a_stranger_has_is_refused_and_nothing_is_started(
    top_node: TopNode, tmp_path: Path, workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as stranger:
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        options = {
            "--listen": "serving.address",
            "--streaming": "front.streaming",
            "--registry": "registry.address",
            "--admin": "admin",
        }
        for option, field in options.items():
            node = top_node(option, address, data=tmp_path / field, workers=workers, ready=False)
            assert node.wait_ended() == 1
            said = node.log.read_text()
            assert f"ADDRESS_TAKEN ({field})" in said
            assert address in said
            assert list(tmp_path.glob(f"{field}/*")) == []


def test_told_to_stop_while_it_starts_it_stops(top_node: TopNode) -> None:
    node = top_node(workers=2, ready=False, TOPNODE_SERVING__DRAIN_GRACE="100ms")
    wait_until(lambda: bool(children_of(node.pid, "nodes.serving.owner")))
    # An owner that does not come up: the resolvers wait for it.
    (owner,) = children_of(node.pid, "nodes.serving.owner")
    os.kill(owner, signal.SIGSTOP)
    node.signal(signal.SIGTERM)
    assert node.wait_ended() == 0
    assert not is_running(owner)


def test_a_setting_that_nothing_reads_is_refused(top_node: TopNode, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("[memory]\nsise = '1MiB'\n")
    node = top_node("--config", str(config), ready=False)
    assert node.wait_ended() == 1
    assert "Did you mean memory.size?" in node.log.read_text()
    assert not node.data.exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_tls_files_that_are_not_there_are_refused_before_anything_starts(top_node: TopNode, workers: int) -> None:
    tls = {"TOPNODE_SERVING__TLS__CERTIFICATE": "/absent.pem", "TOPNODE_SERVING__TLS__KEY": "/absent.pem"}
    node = top_node(workers=workers, ready=False, **tls)
    assert node.wait_ended() == 1
    assert "FILE_UNREADABLE (serving.tls.certificate)" in node.log.read_text()
    assert not node.data.exists()


def test_with_tls_callers_need_it_and_replaced_files_are_taken_up(top_node: TopNode, tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    files = old.issue("node", alternatives=("node.test",))
    tls = {"TOPNODE_SERVING__TLS__CERTIFICATE": files.certificate, "TOPNODE_SERVING__TLS__KEY": files.key}
    node = top_node(workers=2, **tls)
    assert node.started.tls

    def answers(authority: Authority) -> bool:
        credentials = grpc.ssl_channel_credentials(Path(authority.path).read_bytes())
        with node.channel(credentials, "node.test") as channel:
            try:
                return node.resolve("88.111/SN-1", channel).outcome == pb.OUTCOME_NOT_HERE
            except Fault:
                return False

    assert answers(old)
    with pytest.raises(Fault):
        node.resolve("88.111/SN-1")
    new.issue("node", alternatives=("node.test",))
    node.signal(signal.SIGHUP)
    wait_until(lambda: all(answers(new) for _ in range(CONNECTIONS)))
    assert not answers(old)
    assert node.get("/readyz")[0] == 200


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_cannot_be_opened_ends_the_start(top_node: TopNode, tmp_path: Path, workers: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(b"nothing of ours" * 1_000)
    node = top_node(workers=workers, ready=False)
    assert node.wait_ended() == 1
    assert "STORE_" in node.log.read_text()
    assert not (node.data / "run").exists()


def test_a_process_that_keeps_ending_is_given_up_with_the_node(top_node: TopNode) -> None:
    node = top_node(workers=1, TOPNODE_RESTARTS__ATTEMPTS="2", TOPNODE_RESTARTS__STEADY="1h")
    pids = children_of(node.pid)
    killed = 0
    for _ in range(3):
        killed = kill_successor(node, "worker-0", killed)
    assert node.wait_ended() == 1
    assert "worker-0 ended again and again" in node.log.read_text()
    assert [pid for pid in pids if is_running(pid)] == []


async def test_everything_in_one_process(top_node: TopNode) -> None:
    node = top_node(workers=0)
    assert children_of(node.pid) == set()
    await node.load(PREFIX, row(1))
    took = wait_until(lambda: node.resolve("88.111/SN-1").outcome == pb.OUTCOME_FOUND, 5)
    assert took < 1
    assert node.get("/readyz")[0] == 200
    assert set(node.pids().values()) == {node.pid}
    assert resolved_by(node) == {"worker-0"}


def test_logs_are_json_where_asked_for(top_node: TopNode) -> None:
    node = top_node("--log-format", "json", workers=1)
    assert node.stop() == 0
    events = [json.loads(line) for line in node.log.read_text().splitlines()]
    assert {"serves", "draining", "stopped"} <= {event["event"] for event in events}
    assert {event["level"] for event in events} == {"info"}


def test_under_a_long_path_sockets_are_elsewhere(top_node: TopNode, tmp_path: Path) -> None:
    node = top_node(data=tmp_path / ("d" * 100), workers=1)
    assert node.get("/readyz")[0] == 200
    assert not (node.data / "run").exists()
