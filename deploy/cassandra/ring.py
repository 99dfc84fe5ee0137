"""A ring of Cassandra nodes on this machine: node K listens on 127.0.0.K, and all it has lies in one folder.

The folder remembers how the ring was made, so that every later command needs nothing but the folder.
"""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final, Self

from deploy.cassandra import jars, jdk

HERE: Final = Path(__file__).resolve().parent
DAEMON: Final = "org.apache.cassandra.service.CassandraDaemon"
REMEMBERED: Final = "ring.json"
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 40.0
TOOL_SECONDS: Final = 60.0

TRIAL: Final = (
    # Nodes of one machine hear each other at once: nobody waits half a minute for news from the ring.
    "-Dcassandra.ring_delay_ms=1000",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
)
LASTING: Final = (
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=300",
    "-XX:+ParallelRefProcEnabled",
    "-Xms{heap}",
    "-Xmx{heap}",
)
FAST: Final = (
    "-Dcassandra.ring_delay_ms=0",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.shutdown_announce_in_ms=100",
    "-Dcassandra.superuser_setup_delay_ms=0",
    # On a busy machine a node misses a change of the schema: let it ask for it before anybody gives up.
    "-Dcassandra.migration_delay_ms=1000",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xms128m",
    "-Xmx{heap}",
)
FAST_ALONE: Final = (
    # Tables are made in a third of the time: the system's own are not flushed after each change of the schema. A node
    # that is killed and has others forgets tables that those have.
    "-Dcassandra.unsafesystem=true",
)
FAST_SETTINGS: Final = (
    "auto_bootstrap: false",
    "auto_snapshot: false",
    "commitlog_sync: periodic",
    "commitlog_sync_period: 10000ms",
    "commitlog_segment_size: 16MiB",
    "commitlog_total_space: 256MiB",
    "concurrent_reads: 16",
    "concurrent_writes: 16",
    "concurrent_compactors: 1",
    "file_cache_size: 32MiB",
    "networking_cache_size: 16MiB",
    "memtable_heap_space: 96MiB",
    "memtable_offheap_space: 96MiB",
    # A machine that runs tests is busy. But a node that has not reckoned yet when to ask another replica waits for
    # half of this, and a lookup for 2 s.
    "read_request_timeout: 3s",
    "range_request_timeout: 10s",
    "write_request_timeout: 5s",
    "cas_contention_timeout: 5s",
)


class RingError(Exception):
    """What was asked for cannot be done; the text says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """How a ring is made. Nodes are numbered from 1."""

    folder: Path
    nodes: int = 1
    native_port: int = 9042
    """Where clients ask; the same on every node's address."""
    storage_port: int = 7000
    """Where nodes talk to each other; likewise."""
    jmx_port: int = 7199
    """Where nodetool asks node 1, on 127.0.0.1 only; node K has the (K-1)th port after it."""
    data_centre: str = "datacenter1"
    racks: int = 3
    """Node K is in rack (K-1) % racks + 1."""
    heap: str = "1g"
    """As java takes it: 512m, 8g."""
    fast: bool = False
    """For tests: starts in seconds, and may lose the last seconds of writes in a power cut."""
    settings: tuple[str, ...] = ()
    """Further lines of cassandra.yaml, `key: value`; they win."""

    @classmethod
    def remembered(cls, folder: Path) -> Self:
        """Read how the ring of this folder was made.

        Raises:
            RingError: no ring was.
        """
        try:
            fields = json.loads((folder / REMEMBERED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RingError(f"There is no ring in {folder}. `start` makes one.") from None
        return cls(folder=folder, **{**fields, "settings": tuple(fields["settings"])})

    @classmethod
    def made(cls, folder: Path, **options: Any) -> Self:
        """Give the ring of this folder: the one that is there, or else a new one with these options.

        Raises:
            RingError: the one that is there was made with other options.
        """
        folder = folder.resolve()
        if not (folder / REMEMBERED).exists():
            ring = cls(folder=folder, **options)
            folder.mkdir(parents=True, exist_ok=True)
            fields = {name: getattr(ring, name) for name in cls.__dataclass_fields__ if name != "folder"}
            (folder / REMEMBERED).write_text(json.dumps(fields, indent=1), encoding="utf-8")
            return ring
        ring = cls.remembered(folder)
        for name, value in options.items():
            if getattr(ring, name) != value:
                made = (
                    f"The ring in {folder} was made with {name.replace('_', '-')} {getattr(ring, name)}, not {value}."
                )
                raise RingError(f"{made}\nLeave the option away, take another folder, or begin afresh with --fresh.")
        return ring

    @property
    def numbers(self) -> range:
        return range(1, self.nodes + 1)

    @property
    def addresses(self) -> list[str]:
        return [address(node) for node in self.numbers]

    def place(self, node: int) -> Path:
        """The folder of one node.

        Raises:
            RingError: the ring has no such node.
        """
        if node not in self.numbers:
            raise RingError(f"The ring in {self.folder} has nodes 1 to {self.nodes}, and no node {node}.")
        return self.folder / f"node{node}"

    def pid(self, node: int) -> int:
        """The process that runs this node; 0 while none does.

        It is looked for by the folder that it was started with: nothing can be out of date, and whoever runs it now
        is found even where the folder has been removed.
        """
        folder, program = f"-Dcassandra.storagedir={self.place(node)}".encode(), DAEMON.encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended meanwhile
            if folder in command and program in command:
                return int(process.name)
        return 0

    def serves(self, node: int) -> bool:
        """Does this node take clients' connections?"""
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((address(node), self.native_port)) == 0

    # --- configuration -------------------------------------------------------------------------------------------

    def yaml(self, node: int) -> str:
        """Fill in a node's cassandra.yaml."""
        lines = self.settings
        if self.fast:
            lines = (*FAST_SETTINGS, f"initial_token: {_tokens(node, self.nodes)}", *lines)
        template = Template(_without((HERE / "cassandra.yaml").read_text(encoding="utf-8"), lines))
        filled = template.substitute(
            address=address(node),
            seeds=",".join(address(seed) for seed in self.numbers[:3]),
            folder=self.place(node),
            storage_port=self.storage_port,
            native_port=self.native_port,
        )
        return filled + "".join(f"{line}\n" for line in _last_of_each(lines))

    def rack(self, node: int) -> str:
        """Fill in a node's cassandra-rackdc.properties."""
        return f"dc={self.data_centre}\nrack=rack{(node - 1) % self.racks + 1}\n"

    def configure(self, node: int) -> None:
        """Write a node's configuration, and make the folders that it needs."""
        place = self.place(node)
        for name in ("conf", "log", "scratch"):
            (place / name).mkdir(parents=True, exist_ok=True)
        (place / "conf" / "cassandra.yaml").write_text(self.yaml(node), encoding="utf-8")
        (place / "conf" / "cassandra-rackdc.properties").write_text(self.rack(node), encoding="utf-8")
        for name in ("logback.xml", "logback-tools.xml"):
            shutil.copy(HERE / name, place / "conf" / name)

    # --- running -------------------------------------------------------------------------------------------------

    def start(self, nodes: Iterable[int]) -> None:
        """Start these nodes, and wait until they serve and all that run have seen each other.

        A fast ring's nodes start together; others one after another, because only one may join a ring at a time.

        Raises:
            NoJdkError, NoJarsError: what they run on is missing.
            RingError: a port is taken, or java ended; the text has the end of its output.
        """
        java_home = jdk.home()
        jars.resolve(java_home)
        waiting = {}
        for node in nodes:
            if self.pid(node):
                continue
            if self.serves(node):
                raise RingError(f"{address(node)}:{self.native_port} is taken: give --native-port another one.")
            waiting[node] = self._launch(java_home, node)
            if not self.fast:
                self._wait_serving(waiting)
                waiting = {}
        self._wait_serving(waiting)
        self._wait_seen()

    def _launch(self, java_home: Path, node: int) -> "subprocess.Popen[bytes]":
        self.configure(node)
        place = self.place(node)
        flags = (*LASTING, *TRIAL) if not self.fast else FAST if self.nodes > 1 else FAST + FAST_ALONE
        command = [
            *self._java(java_home, node, "logback.xml"),
            *(flag.format(heap=self.heap) for flag in flags),
            f"-javaagent:{jars.agent()}",
            f"-XX:ErrorFile={place}/log/crash.log",
            f"-Dcassandra.jmx.local.port={self.jmx_port + node - 1}",
            DAEMON,
        ]
        with (place / "log" / "output.log").open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place, start_new_session=True
            )

    def _java(self, java_home: Path, node: int, logback: str) -> list[str]:
        place = self.place(node)
        return [
            str(java_home / "bin" / "java"),
            f"@{HERE / 'jvm.options'}",
            f"-Djava.io.tmpdir={place}/scratch",
            f"-Dcassandra.config=file://{place}/conf/cassandra.yaml",
            f"-Dcassandra.storagedir={place}",
            f"-Dcassandra.logdir={place}/log",
            f"-Dlogback.configurationFile={logback}",
            "-cp",
            f"{place}/conf:{jars.FOLDER}/*",
        ]

    def _wait_serving(self, waiting: "dict[int, subprocess.Popen[bytes]]") -> None:
        until = time.monotonic() + START_SECONDS
        for node, started in waiting.items():
            while not self.serves(node):
                if started.poll() is not None or time.monotonic() > until:
                    reason = f"ended with {started.returncode}" if started.returncode else "did not come to serve"
                    self.stop(waiting, kill=True)
                    raise RingError(
                        f"Node {node} {reason}; its log is in {self.place(node)}/log.\n{self._last_words(node)}"
                    )
                time.sleep(0.05)

    def _wait_seen(self) -> None:
        running = {address(node): node for node in self.numbers if self.pid(node)}
        until = time.monotonic() + START_SECONDS
        while len(running) > 1:
            if all(
                running.keys() <= {host for host, state in seen.items() if state == "UN"}
                for seen in self._seen(running.values())
            ):
                return
            if time.monotonic() > until:
                raise RingError(
                    f"The nodes {', '.join(running)} do not see each other; their logs are in {self.folder}."
                )

    def _last_words(self, node: int) -> str:
        said = (self.place(node) / "log" / "output.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(said.splitlines()[-15:])

    def stop(self, nodes: Iterable[int], *, kill: bool = False) -> None:
        """End these nodes and wait until they are gone; with `kill`, or when one does not end in time, by force."""
        running = {node: pid for node in nodes if (pid := self.pid(node))}
        for pid in running.values():
            os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
            # One that was frozen hears nothing else before it goes on.
            os.kill(pid, signal.SIGCONT)
        until = time.monotonic() + STOP_SECONDS
        # One that was killed has no command any more before its ports are free.
        while any(self.pid(node) or self.serves(node) for node in running):
            if time.monotonic() > until and kill:
                raise RingError(f"Node {' and '.join(map(str, running))} cannot be ended.")
            if time.monotonic() > until:
                return self.stop(running, kill=True)
            time.sleep(0.05)
        return None

    # --- tools ---------------------------------------------------------------------------------------------------

    def java(self, node: int, main: str, arguments: Sequence[str], *, heap: str = "256m") -> list[str]:
        """Build the command of a tool out of Cassandra's jars, with the configuration of this node.

        Raises:
            NoJdkError: there is no Java to run it.
        """
        java = self._java(jdk.home(), node, "logback-tools.xml")
        return [*java, f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", main, *arguments]

    def nodetool(self, node: int, arguments: Sequence[str]) -> list[str]:
        """Build the command of nodetool for this node."""
        where = ("-h", "127.0.0.1", "-p", str(self.jmx_port + node - 1))
        return self.java(node, "org.apache.cassandra.tools.NodeTool", [*where, *arguments])

    def seen(self, node: int) -> dict[str, str]:
        """Ask a node how it sees the ring: UN (up), DN (down) and so on by address; nothing if it is down itself."""
        return next(iter(self._seen([node])))

    def _seen(self, nodes: Iterable[int]) -> list[dict[str, str]]:
        commands = [self.nodetool(node, ["status"]) for node in nodes]
        asked = [
            subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for each in commands
        ]
        told = [each.communicate(timeout=TOOL_SECONDS)[0] for each in asked]
        return [
            {host: state for state, host in re.findall(r"^([UD][NLJM])  (\S+)", text, re.MULTILINE)} for text in told
        ]


def address(node: int) -> str:
    return f"127.0.0.{node}"


def _tokens(node: int, nodes: int, each: int = 16) -> str:
    """Cut the circle of tokens into equal parts, the nodes' in turn, so that nobody has to ask before it joins."""
    whole = each * nodes
    return ",".join(str(-(2**63) + 2**63 * (2 * part + 1) // whole) for part in range(node - 1, whole, nodes))


def _key(line: str) -> str:
    return line.partition(":")[0]


def _last_of_each(lines: Sequence[str]) -> list[str]:
    return list({_key(line): line for line in lines}.values())


def _without(yaml: str, lines: Sequence[str]) -> str:
    """Take out of a text the top-level settings that these lines replace, with all that is indented below them."""
    replaced, kept, is_out = {_key(line) for line in lines}, [], False
    if "commitlog_sync" in replaced:
        replaced |= {"commitlog_sync_group_window"}
    for line in yaml.splitlines():
        if not line.startswith((" ", "#")):
            is_out = _key(line) in replaced
        if not is_out or line.startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"
