"""Progress of a command on stderr: a bar on a terminal, and nothing elsewhere."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.console import err


class Bars:
    """The bar of the work that a command does now. A terminal shows one bar at a time."""

    def __init__(self) -> None:
        self._shown: Progress | None = None

    def __call__(self, name: str) -> Callable[[int, int], None]:
        """Show a bar in place of the last bar. Call the answer with the progress and its end."""
        self.clear()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        shown = self._shown = Progress(
            *columns,
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        task = shown.add_task(name, total=None)
        shown.start()
        return lambda at, end: shown.update(task, completed=at, total=end or None)

    def clear(self) -> None:
        """Take the bar away. A bar would erase what is printed while the bar is there."""
        if self._shown is not None:
            self._shown.stop()
        self._shown = None


@contextmanager
def bars() -> Generator[Bars]:
    """The bars of a command. At the end there is none."""
    shown = Bars()
    try:
        yield shown
    finally:
        shown.clear()
