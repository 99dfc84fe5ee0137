"""The command line: `python -m deploy.cassandra start`, in the folder of the checkout. It needs Python alone."""

import argparse
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.cassandra import jars, jdk
from deploy.cassandra.backup import back_up, drill, restore
from deploy.cassandra.jars import NoJarsError
from deploy.cassandra.jdk import NoJdkError
from deploy.cassandra.ring import REMEMBERED, Ring, RingError, address

FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / "cassandra"

EPILOG: Final = """
start, run     --nodes 3 --native-port 9042 --storage-port 7000 --jmx-port 7199 --data-centre NAME --racks 3
               --heap 1g --fast --setting 'KEY: VALUE' ... --fresh
Options of a ring that exists already are left away: its folder remembers them.
"""


def main() -> int:
    """Do what was asked for, and give the exit code."""
    options = _options()
    try:
        return int(options.does(options) or 0)
    except (NoJdkError, NoJarsError, RingError) as error:
        print(error, file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.cassandra", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the ring lies (default build/cassandra)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    commands.add_parser("jars", help="bring the server's jars, unless they are there").set_defaults(does=bring)

    start = commands.add_parser("start", help="start a ring or one of its nodes, and come back when it serves")
    start.add_argument("--node", type=int, help="this one only")
    start.set_defaults(does=begin)
    run = commands.add_parser("run", help="start a ring, and stop it at Ctrl-C")
    run.add_argument("--while-running", type=int, metavar="PID", help="stop it when this process has ended, too")
    run.set_defaults(does=stay)
    for each in (start, run):
        each.add_argument("--nodes", type=int)
        each.add_argument("--native-port", type=int, help="where clients ask (9042)")
        each.add_argument("--storage-port", type=int, help="where nodes talk to each other (7000)")
        each.add_argument("--jmx-port", type=int, help="where nodetool asks the first node (7199)")
        each.add_argument("--data-centre", help="its name (datacenter1)")
        each.add_argument("--racks", type=int, help="how many racks the nodes stand in (3)")
        each.add_argument("--heap", help="of each node (1g)")
        each.add_argument(
            "--fast", action="store_true", default=None, help="for tests: seconds to start, not durable"
        )
        each.add_argument("--setting", action="append", metavar="'KEY: VALUE'", help="of cassandra.yaml; it wins")
        each.add_argument("--fresh", action="store_true", help="forget the ring that is in the folder")

    stop = commands.add_parser("stop", help="stop a ring or one of its nodes")
    stop.add_argument("--node", type=int, help="this one only")
    stop.add_argument(
        "--kill", action="store_true", help="as a power cut would, but for what the system still writes"
    )
    stop.set_defaults(does=end)

    commands.add_parser("status", help="which nodes run; exit code 1 unless all do").set_defaults(does=tell)

    nodetool = commands.add_parser("nodetool", help="ask one node: nodetool [--node 2] status")
    nodetool.add_argument("--node", type=int, default=1)
    nodetool.add_argument("arguments", nargs=argparse.REMAINDER)
    nodetool.set_defaults(does=ask)

    java = commands.add_parser("java", help="run another tool: java org.apache.cassandra.tools.BulkLoader -d ...")
    java.add_argument("--node", type=int, default=1, help="whose configuration it reads")
    java.add_argument("--heap", default="256m")
    java.add_argument("main")
    java.add_argument("arguments", nargs=argparse.REMAINDER)
    java.set_defaults(does=run_tool)

    copied = commands.add_parser("backup", help="copy a keyspace out of a ring (see README.md: pause who writes)")
    copied.add_argument("--keyspace", default="topnode")
    copied.add_argument("target", type=Path)
    copied.set_defaults(does=copy_out)
    restored = commands.add_parser("restore", help="put a copy into a ring that has no such keyspace")
    restored.add_argument("source", type=Path)
    restored.set_defaults(does=copy_in)
    tried = commands.add_parser("drill", help="copy a keyspace, restore it into a ring made for that, and compare")
    tried.add_argument("--keyspace", default="topnode")
    tried.add_argument("--native-port", type=int, default=9142, help="of the ring made for that (9142)")
    tried.add_argument("--storage-port", type=int, default=7100)
    tried.add_argument("--jmx-port", type=int, default=7299)
    tried.add_argument("--keep", action="store_true", help="let it run, to look at it further")
    tried.add_argument("place", type=Path, help="an empty folder for the copy and the ring")
    tried.set_defaults(does=try_backup)
    return parser.parse_args()


def bring(_options: argparse.Namespace) -> None:
    jars.resolve(jdk.home())
    print(jars.FOLDER)


def begin(options: argparse.Namespace) -> None:
    ring = _made(options)
    ring.start([options.node] if options.node else ring.numbers)
    tell(options)


def stay(options: argparse.Namespace) -> None:
    """Run until told to end, by a signal or by the end of the process that this ring was started for."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    ring = _made(options)
    try:
        ring.start(ring.numbers)
        tell(options)
        sys.stdout.flush()
        ended = select.poll()
        if options.while_running:
            ended.register(os.pidfd_open(options.while_running), select.POLLIN)
        ended.poll()
    except (KeyboardInterrupt, ProcessLookupError):
        pass
    finally:
        ring.stop(ring.numbers)


def _made(options: argparse.Namespace) -> Ring:
    if options.fresh and (options.folder / REMEMBERED).exists():
        old = Ring.remembered(options.folder.resolve())
        old.stop(old.numbers, kill=True)
        shutil.rmtree(options.folder)
    names = ("nodes", "native_port", "storage_port", "jmx_port", "data_centre", "racks", "heap", "fast")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.setting:
        given["settings"] = tuple(options.setting)
    return Ring.made(options.folder, **given)


def end(options: argparse.Namespace) -> None:
    ring = _remembered(options)
    ring.stop([options.node] if options.node else ring.numbers, kill=options.kill)


def tell(options: argparse.Namespace) -> int:
    ring = _remembered(options)
    serving = {node for node in ring.numbers if ring.pid(node) and ring.serves(node)}
    print("\n".join(_condition(ring, node, serves=node in serving) for node in ring.numbers))
    return int(len(serving) < ring.nodes)


def _condition(ring: Ring, node: int, *, serves: bool) -> str:
    pid = ring.pid(node)
    condition = f"serves, pid {pid}" if serves else f"does not serve, pid {pid}" if pid else "stopped"
    return f"node {node}  {address(node)}:{ring.native_port}  {' '.join(ring.rack(node).split())}  {condition}"


def ask(options: argparse.Namespace) -> int:
    return subprocess.call(_remembered(options).nodetool(options.node, options.arguments))


def run_tool(options: argparse.Namespace) -> int:
    ring = _remembered(options)
    return subprocess.call(ring.java(options.node, options.main, options.arguments, heap=options.heap))


def copy_out(options: argparse.Namespace) -> None:
    back_up(_remembered(options), options.keyspace, options.target)


def copy_in(options: argparse.Namespace) -> None:
    print(f"{restore(_remembered(options), options.source)} is restored.")


def try_backup(options: argparse.Namespace) -> int:
    """Begin with an empty ring, and leave none behind but the copy, unless it is to be kept."""
    ring = _remembered(options)
    if options.place.exists() and any(options.place.iterdir()):
        raise RingError(f"{options.place} is not empty.")
    spare = Ring.made(
        options.place / "ring",
        nodes=ring.nodes,
        native_port=options.native_port,
        storage_port=options.storage_port,
        jmx_port=options.jmx_port,
        data_centre=ring.data_centre,
        racks=ring.racks,
        heap=ring.heap,
        fast=True,
    )
    try:
        spare.start(spare.numbers)
        is_same = drill(ring, spare, options.keyspace, options.place / "copy", print)
    finally:
        if not options.keep:
            spare.stop(spare.numbers)
    print("What was restored is what was there." if is_same else "What was restored is NOT what was there.")
    return int(not is_same)


def _remembered(options: argparse.Namespace) -> Ring:
    return Ring.remembered(options.folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
