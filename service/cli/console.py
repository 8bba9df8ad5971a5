"""The consoles of the commands: `out` for results, `err` for everything else.

They print a text as it is: `[1]` is no style, and `:ok:` is no picture.
"""

from rich.console import Console

out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
