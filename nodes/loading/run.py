"""A load as its user sees it. What is done is in `nodes.loading.loads`."""

from contextlib import AbstractAsyncContextManager, closing, nullcontext
from typing import Final

from nodes.loading.bars import Tell, bytes_bar
from nodes.loading.imports import Taken, TakesImports
from nodes.loading.inputs import Input
from nodes.loading.line_files import LineFile
from nodes.loading.loads import Manner, rejects_of, run_load
from nodes.loading.pieces import Piece
from nodes.loading.summaries import Summary, print_summary, tell_interrupted
from nodes.loading.tallies import Tally
from nodes.serving.child import spare_collector
from nodes.terminal import messages
from resolver.clock import SystemClock
from resolver.store import Checkpoint

_COUNTS: Final = ("registered", "replaced", "unchanged", "rejected")


class Run:
    """One run of a command that loads: a bar meanwhile, what was refused in a file, and a summary."""

    def __init__(self, rows: Input, name: str, manner: Manner, rejects: LineFile | None) -> None:
        self.tally = Tally(SystemClock())
        self._rows = rows
        self._name = name
        self._manner = manner
        self._rejects = rejects
        self._bar: Tell | None = None

    async def load(self, opening: AbstractAsyncContextManager[TakesImports], *, restart: bool = False) -> None:
        """Load into what is opened here, with a progress bar.

        Raises:
            Fault: as `opening` and `run_load`.
        """
        # Whatever exists by now stays: the collector need not look at it for each few hundred rows.
        spare_collector()
        with closing(self._rejects) if self._rejects else nullcontext(), bytes_bar("loading") as tell:
            self._bar = tell

            def begin(reached: Checkpoint) -> None:
                self.tally.begin(reached)
                self._begin_rejects(reached)
                tell(reached.offset, self._rows.size, "")

            def take(piece: Piece, taken: Taken) -> None:
                rejects = rejects_of(piece, taken)
                self.tally.take(piece, taken, rejects)
                if self._rejects:
                    self._rejects.write(reject.plain() for reject in rejects)
                tell(piece.part.end_offset, self._rows.size, f"{self.tally.rate:,.0f} rows/s")

            async with opening as imports:
                await run_load(
                    self._rows, imports, self._name, self._manner, restart=restart, on_begin=begin, on_taken=take
                )

    def say(self, word: str) -> None:
        """Show beside the bar what is done now."""
        if self._bar is not None:
            self._bar(self.tally.reached.offset, self._rows.size, word)

    def _begin_rejects(self, reached: Checkpoint) -> None:
        if self._rejects is None:
            return
        if not reached.offset:
            self._rejects.begin()
            return
        self._rejects.go_on()
        there = self._rejects.count()
        if there < reached.rejected:
            messages().print(
                f"{reached.rejected - there} rows that were refused before the interruption are not in the file of "
                "rejects; --restart tells them again."
            )

    def tell_interrupted(self, *, can_go_on: bool) -> None:
        """Tell what is in and how to go on."""
        lines = self.tally.reached.lines
        tell_interrupted("load", lines, "Give all rows again: these are skipped then.", can_go_on=can_go_on)

    def print_summary(self, *, as_json: bool, **named: object) -> None:
        """Print what has come of all rows; what is `named` stands in the JSON document too."""
        tally, reached = self.tally, self.tally.reached
        summary = Summary(
            source=self._rows.name,
            lines=reached.lines,
            octets=reached.offset,
            counts={name: getattr(reached, name) for name in _COUNTS},
            reasons=tally.reasons,
            resumed_at=tally.resumed_at,
            index=tally.index,
            seconds=tally.seconds,
            rate=tally.rate,
        )
        print_summary(summary, as_json=as_json, load=self._name, **named)
