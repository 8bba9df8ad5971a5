"""Progress of a command on stderr: a bar on a terminal, and nothing elsewhere."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli.console import err

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def bars() -> Generator[Callable[[str], Callable[[int, int], None]]]:
    """Yields what makes a bar of a name; the bar is called with how far it is, and its end."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = err.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=err, disable=not shown) as progress:

        def bar(name: str) -> Callable[[int, int], None]:
            task: TaskID = progress.add_task(name, total=None)
            return lambda at, end: progress.update(task, completed=at, total=end or None)

        yield bar
