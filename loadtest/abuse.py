"""What others notice of those who abuse a node: `python -m loadtest.abuse [--json FILE] [PROBE ...]`.

One node with the native front is pinned to one core; each probe of `tests.abuse` runs on the others, against it. A
polite caller asks every two milliseconds, alone and beside the probe by turns: the p99 of all its calls beside, of
all those alone; once for what the front keeps, and once for what nobody has asked for before, which Python answers.
It is on the node's core, with a real-time priority where it may have one: on the prober's core it would also wait for
what the probe costs its own machine, which is not what the node does to others.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtest.cores import on_generator_cores, on_server_core, server_core
from loadtest.figures import Bar, Figures
from resolver.front.native_front import is_installed
from tests.abuse import PROBES, SMALL
from tests.abused_node import abused_node, run_probe
from tests.fronts import NATIVE
from tests.polite import Cost, PoliteCaller, percentile
from tests.running_node import RunningNode

ROUNDS: Final = 4
EVERY: Final = 0.002
ALONE: Final = 1.0
"""Seconds for which the caller is alone in each round."""

AFTERWARDS: Final = 0.3
"""Seconds for which a probe's effect is looked at beyond its end."""

TIMES: Final = 2.0
"""What the p99 of others may be beside a probe, of what it is alone."""

MEBIBYTES: Final = 64.0
"""What a probe may make the node hold more."""

_MEBI: Final = 1 << 20
_PRIORITY: Final = 5
_NEVER_ASKED: Final = map(b"88.111/none-%d".__mod__, itertools.count())
CALLERS: Final[Mapping[str, Iterator[bytes]]] = {"hits": itertools.repeat(SMALL), "misses": _NEVER_ASKED}
"""What they ask for."""

Case = tuple[str, str]
"""A probe, and who asks beside it."""


class Noticed(Struct):
    """What was seen in one case: seconds of the caller's calls, octets, seconds of the node's CPU."""

    alone: list[float] = []
    beside: list[float] = []
    peak: int = 0
    cpu: float = 0.0

    def p99(self) -> tuple[float, float]:
        """Give it alone and beside, in seconds."""
        return percentile(self.alone, 0.99), percentile(self.beside, 0.99)


def main() -> None:
    """Measure, show, write down; exit code 1 when a promise was missed."""
    parser = argparse.ArgumentParser(prog="loadtest.abuse", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("probes", nargs="*", metavar="PROBE", help=f"one of {', '.join(PROBES)}; none: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.probes) - PROBES.keys():
        parser.error(f"there is no probe {', '.join(sorted(unknown))}")
    if not is_installed():
        sys.exit("There is no native front here: make native.")
    console = Console()
    cases = list(itertools.product(arguments.probes or PROBES, CALLERS))
    with tempfile.TemporaryDirectory(prefix="topnode-abuse-") as folder:
        noticed = _measure(Path(folder), cases, console)
    console.print(_table(noticed))
    figures = Figures(bars=[bar for case, seen in noticed.items() for bar in bars_of(case, seen)])
    if arguments.json:
        figures.write(arguments.json)
    sys.exit(not all(bar.holds for bar in figures.bars))


def _measure(folder: Path, cases: Sequence[Case], console: Console) -> dict[Case, Noticed]:
    noticed = {case: Noticed() for case in cases}
    # Asked for here: whoever is on the other cores sees those only.
    prepare = partial(_prepare, server_core())
    with ExitStack() as stack:
        with on_server_core():
            node = stack.enter_context(abused_node(folder, NATIVE.environment))
        stack.enter_context(on_generator_cores())
        turns = [case for case in cases for _ in range(ROUNDS)]
        for case in track(turns, "probing", console=console, disable=not console.is_terminal):
            _look(node, case, noticed[case], prepare)
    return noticed


def _look(node: RunningNode, case: Case, noticed: Noticed, prepare: Callable[[], None]) -> None:
    """Have the caller ask alone, and then beside the probe."""
    probe, caller = case
    polite = partial(PoliteCaller, node.address, EVERY, identifiers=CALLERS[caller], prepare=prepare)
    with polite() as alone:
        time.sleep(ALONE)
    with polite() as beside, Cost(node.pid) as cost:
        seen = run_probe(probe, node.address)
        time.sleep(AFTERWARDS)
    if failed := [*alone.failed, *beside.failed]:
        sys.exit(f"{probe}: polite calls failed: {failed}")
    if not seen.sent:
        sys.exit(f"{probe}: nothing was sent: {seen}")
    noticed.alone += alone.took
    noticed.beside += beside.took
    noticed.peak = max(noticed.peak, cost.peak)
    noticed.cpu += cost.cpu / ROUNDS


def _prepare(core: int) -> None:
    """Be where the node is, and before it."""
    os.sched_setaffinity(0, {core})
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))


def bars_of(case: Case, noticed: Noticed) -> list[Bar]:
    """Give what is promised of a probe."""
    probe, caller = case
    alone, beside = noticed.p99()
    return [
        Bar(name=f"{probe}: p99 of others' {caller}, times", measured=beside / alone, bound=TIMES, is_floor=False),
        Bar(
            name=f"{probe}: memory more, beside {caller}",
            measured=noticed.peak / _MEBI,
            bound=MEBIBYTES,
            is_floor=False,
            unit="MiB",
        ),
    ]


def _table(noticed: Mapping[Case, Noticed]) -> Table:
    title = "p99 of a caller who asks now and then, alone and beside each probe, in ms; CPU and memory of the node"
    table = Table(title=title, title_justify="left")
    table.add_column("probe", overflow="fold")
    table.add_column("asked for")
    for column in ("alone", "beside", "times", "CPU s", "MiB", ""):
        table.add_column(column, justify="right")
    for case, seen in noticed.items():
        alone, beside = seen.p99()
        is_kept = all(bar.holds for bar in bars_of(case, seen))
        table.add_row(
            *case,
            f"{alone * 1e3:.2f}",
            f"{beside * 1e3:.2f}",
            f"{beside / alone:.2f}",
            f"{seen.cpu:.2f}",
            f"{seen.peak / _MEBI:.0f}",
            "[green]kept[/]" if is_kept else "[bold red]missed[/]",
        )
    return table


if __name__ == "__main__":
    main()
