"""Running a node of any tier to its end, in one process or in several."""

import asyncio
import logging
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import uvloop
from msgspec.structs import replace

from nodes.listening import Address, reserved
from nodes.serving.alone import Alone
from nodes.serving.run_folder import run_folder
from nodes.serving.started import Started
from nodes.serving.stopping import Stopping
from nodes.serving.supervisor import Supervisor, worker_count
from nodes.settings import NodeSettings, check
from resolver.clock import SystemClock
from resolver.errors import Fault, first_fault

BY_FORCE: Final = 128 + signal.SIGINT
"""Exit code of a node that was interrupted twice."""

Announce = Callable[[Started], None]

_log: Final = logging.getLogger(__name__)


def run(settings: NodeSettings, announce: Announce) -> int:
    """Run a node until it is told to stop, and give the exit code.

    Raises:
        Fault: it could not start, or could not be kept running.
    """
    check(settings)
    _allow_connections()
    # The supervisor answers nobody but the operator; where it is the resolver too, the fast loop pays.
    make_loop = asyncio.new_event_loop if worker_count(settings) else uvloop.new_event_loop
    raised: Fault | None = None
    code = 0
    try:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(_run(settings, announce))
    except* Fault as faults:
        raised = first_fault(faults)
    except* asyncio.CancelledError:
        code = BY_FORCE
    if raised:
        raise raised
    return code


def _allow_connections() -> None:
    """Let this process and its children open as many files as the system allows: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(settings: NodeSettings, announce: Announce) -> None:
    if settings.native.enabled and not settings.has_native:
        _log.info("the native front is not installed (make native): grpcio answers everything, at more cost")
    stopping = Stopping()
    with stopping.on_signals(), placed(settings) as real, run_folder(settings.data) as folder:
        kind = Supervisor if worker_count(settings) else Alone
        await kind(real, folder, SystemClock(), stopping).run(announce)


@contextmanager
def placed(settings: NodeSettings) -> Iterator[NodeSettings]:
    """Hold the addresses of a node, as long as the context lasts; gives the settings with the ports really taken.

    Raises:
        Fault: ADDRESS_TAKEN, SETTING_INVALID.
    """
    with ExitStack() as held:

        def taken(text: str, field: str) -> str:
            return held.enter_context(reserved(Address.from_text(text, field=field), field=field)).to_text()

        yield replace(
            settings,
            serving=replace(settings.serving, address=taken(settings.serving.address, "serving.address")),
            registry=replace(settings.registry, address=taken(settings.registry.address, "registry.address")),
            front=replace(settings.front, streaming=taken(settings.front.streaming, "front.streaming")),
        )
