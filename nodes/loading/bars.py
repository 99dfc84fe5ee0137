"""Progress in bytes, with a word beside it, on standard error; silent where that is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from nodes.terminal import messages

Tell = Callable[[int, int | None, str], None]
"""Takes the bytes that are done, those that there will be (None: nobody knows), and the word."""


@contextmanager
def bytes_bar(what: str) -> Iterator[Tell]:
    """Show a bar until the block ends."""
    console = messages()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TextColumn("{task.fields[word]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(what, total=None, word="")

        def tell(done: int, total: int | None, word: str) -> None:
            progress.update(bar, completed=done, total=total, word=word)

        yield tell
