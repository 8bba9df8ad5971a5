"""The consoles of the commands: `out` for results, `err` for everything else."""

from rich.console import Console

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)
