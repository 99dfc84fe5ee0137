"""A whole cluster on this machine, until Ctrl-C: `python -m deploy.cluster`. Redis, Cassandra, and a top-level node.

For a trial and for looking around: one Cassandra node holds one copy, and all of it is one machine. What lies in the
folder is there again at the next start. deploy/RUNBOOK.md says what several machines have instead.
"""

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from deploy.cassandra.jars import NoJarsError
from deploy.cassandra.jdk import NoJdkError
from deploy.cassandra.ring import Ring, RingError

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "build" / "cluster"
REDIS_PORT: Final = 6390
STOP_SECONDS: Final = 40.0

CONFIG: Final = """\
# Made by `make cluster`; deploy/topnode.toml explains all settings.
data = "{folder}/node"

[registry]
key = "{folder}/journal.pem"

[[registry.operators]]
name = "operator"
key = "{folder}/operator.pub"

[cassandra]
hosts = ["127.0.0.1"]
port = {ring_port}
replicas = 1

[redis]
address = "127.0.0.1:{redis_port}"
"""


def main() -> int:
    """Start all of it, wait for Ctrl-C or SIGTERM, and stop it in order."""
    parser = argparse.ArgumentParser(prog="python -m deploy.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything lies (default build/cluster)")
    parser.add_argument("--heap", default="1g", help="of Cassandra")
    parser.add_argument("--native-port", type=int, default=9042, help="where Cassandra is asked")
    parser.add_argument("--storage-port", type=int, default=7000, help="Cassandra's own")
    parser.add_argument("--jmx-port", type=int, default=7199, help="where nodetool asks")
    parser.add_argument("--redis-port", type=int, default=REDIS_PORT)
    parser.add_argument("serve", nargs="*", help="options of `topnode serve top`, behind --")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(options)
    except (NoJdkError, NoJarsError, RingError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def run(options: argparse.Namespace) -> int:
    """Run the cluster; what was started last is stopped first."""
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    server = shutil.which("redis-server")
    if server is None:
        print("There is no redis-server. On Debian: sudo apt-get install redis-server", file=sys.stderr)
        return 1
    ring = Ring.made(
        folder / "cassandra",
        heap=options.heap,
        native_port=options.native_port,
        storage_port=options.storage_port,
        jmx_port=options.jmx_port,
    )
    with running(redis_command(server, folder, options.redis_port)):
        _say("Cassandra is starting: half a minute the first time.")
        ring.start(ring.numbers)
        try:
            config = _configured(folder, ring, options.redis_port)
            _topnode("store", "migrate", "--config", str(config))
            _say(f"The node's settings are in {config}; operator.pem beside it signs as the operator `operator`.")
            with running([*_TOPNODE, "serve", "top", "--config", str(config), *options.serve]) as node:
                return node.wait()
        finally:
            ring.stop(ring.numbers)


@contextmanager
def running(command: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a program; at the end it is told to stop, and waited for.

    In a group of its own: Ctrl-C reaches this program only, which stops the others in their order.
    """
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def redis_command(server: str, folder: Path, port: int) -> list[str]:
    """Build the command of a cache: nothing on the disk, and room made by what expires soonest."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "volatile-ttl",
        "logfile": str(folder / "redis.log"),
    }
    return [server, *(part for name, value in settings.items() for part in (f"--{name}", value))]


_TOPNODE: Final = (sys.executable, "-m", "nodes")


def _configured(folder: Path, ring: Ring, redis_port: int) -> Path:
    """Make keys and settings, unless they are there."""
    config = folder / "topnode.toml"
    for name in ("journal.pem", "operator.pem"):
        if not (folder / name).exists():
            _topnode("key", "new", str(folder / name))
    public = _topnode("key", "show", str(folder / "operator.pem"), "--pem")
    (folder / "operator.pub").write_text(public, encoding="utf-8")
    text = CONFIG.format(folder=folder, ring_port=ring.native_port, redis_port=redis_port)
    config.write_text(text, encoding="utf-8")
    return config


def _topnode(*arguments: str) -> str:
    ran = subprocess.run([*_TOPNODE, *arguments], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise RingError(f"`topnode {' '.join(arguments)}` has failed.")
    return ran.stdout


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
