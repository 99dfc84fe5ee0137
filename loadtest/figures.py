"""What the benchmarks found: figures, the bars they are held against, and how both are shown and kept."""

import json
import platform
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table


class Transport(Struct, frozen=True, kw_only=True):
    """One kind of call, beside the bare echo of the same bytes and py-lmdb's own read of the same keys (getmulti).

    Times are medians over the rounds; CPU is microseconds of the serving process for each identifier. `ratio` is how
    many times the echo's CPU it takes, `store_share` py-lmdb's CPU of the node's: medians of the rounds' ratios, the
    two measured side by side.
    """

    kind: str
    batch: int
    node_cpu: float
    echo_cpu: float
    ratio: float
    store_cpu: float
    store_share: float
    per_cpu_second: float
    p50_ms: float
    p99_ms: float


class Compared(Struct, frozen=True):
    """A server beside others: microseconds of its CPU for a call, by how many ask; medians over the rounds.

    `ratios` are how many times those of the first server they are: medians of the rounds' ratios, measured in turns.
    """

    server: str
    costs: dict[str, float]
    ratios: dict[str, float]


class Bar(Struct, frozen=True, kw_only=True):
    """A promise: what was measured, and where it must lie.

    `is_absolute`: of a machine like the one in `machine.REFERENCE`, so that it is scaled on others.
    """

    name: str
    measured: float
    bound: float
    is_floor: bool
    unit: str = ""
    is_absolute: bool = False

    def scaled(self, slowness: float) -> "Bar":
        """Give what is to be held against it on a machine that is so many times as slow."""
        if not self.is_absolute:
            return self
        return replace(self, bound=self.bound / slowness if self.is_floor else self.bound * slowness)

    @property
    def holds(self) -> bool:
        """Is the promise kept?"""
        return self.measured >= self.bound if self.is_floor else self.measured <= self.bound


class Figures(Struct, kw_only=True):
    """Everything that one run found."""

    machine: str = f"{platform.machine()}, Python {platform.python_version()}"
    transport: list[Transport] = []
    compared: list[Compared] = []
    bars: list[Bar] = []
    notes: dict[str, float] = {}
    left_out: list[str] = []
    """What was not measured, and why."""

    def scale(self, slowness: float) -> None:
        """Hold absolute promises against what this machine can do, which is so many times as slow."""
        self.bars = [bar.scaled(slowness) for bar in self.bars]
        self.notes["absolute bounds are scaled by"] = slowness

    def write(self, path: Path) -> None:
        """Keep them as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(msgspec.to_builtins(self), indent=2, ensure_ascii=False) + "\n")

    def show(self, console: Console) -> None:
        """Print them as tables."""
        if self.transport:
            console.print(self._transport_table())
        if self.compared:
            console.print(self._compared_table())
        console.print(self._bar_table())
        for name, figure in self.notes.items():
            console.print(f"{name}: {figure:,.4g}")
        for sentence in self.left_out:
            console.print(f"[yellow]Left out:[/] {sentence}")

    def _transport_table(self) -> Table:
        table = Table(title="CPU of the serving process for each identifier", title_justify="left")
        table.add_column("asked")
        for column in ("batch", "node us", "echo us", "x echo", "store us", "per CPU s", "p50 ms", "p99 ms"):
            table.add_column(column, justify="right")
        for row in self.transport:
            table.add_row(
                row.kind,
                "unary" if row.batch == 0 else f"{row.batch:,}",
                f"{row.node_cpu:.2f}",
                f"{row.echo_cpu:.2f}",
                f"{row.ratio:.2f}",
                f"{row.store_cpu:.2f}",
                f"{row.per_cpu_second:,.0f}",
                f"{row.p50_ms:.2f}",
                f"{row.p99_ms:.2f}",
            )
        return table

    def _compared_table(self) -> Table:
        first = self.compared[0]
        table = Table(title="CPU of the server for a call, in microseconds", title_justify="left")
        table.add_column("server")
        for shape in first.costs:
            table.add_column(shape, justify="right")
            table.add_column("times", justify="right")
        for row in self.compared:
            cells = [(f"{cost:.2f}", f"{row.ratios[shape]:.2f}") for shape, cost in row.costs.items()]
            table.add_row(row.server, *(cell for pair in cells for cell in pair))
        return table

    def _bar_table(self) -> Table:
        table = Table(title="Promises", title_justify="left")
        table.add_column("what")
        table.add_column("measured", justify="right")
        table.add_column("bound", justify="right")
        table.add_column("")
        for bar in self.bars:
            side = "at least" if bar.is_floor else "at most"
            table.add_row(
                bar.name,
                f"{bar.measured:,.2f} {bar.unit}".strip(),
                f"{side} {bar.bound:,.2f} {bar.unit}".strip(),
                "[green]kept[/]" if bar.holds else "[red]missed[/]",
            )
        return table
