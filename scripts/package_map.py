"""Write the README's map of the packages: each package with the first line of its docstring."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- map: `make map` writes this table -->"
END: Final = "<!-- end of map -->"


def packages(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Each package and subpackage: its path and the first line of its docstring.

    The line is empty where there is no docstring.
    """
    for pattern in ("*/__init__.py", "domain/*/__init__.py", "service/*/__init__.py"):
        for file in root.glob(pattern):
            docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
            yield file.parent.relative_to(root).as_posix(), docstring.partition("\n")[0]


def table(root: Path = ROOT) -> str:
    """The map as a Markdown table, in the order of the paths."""
    rows = [f"| `{path}/` | {line} |" for path, line in sorted(packages(root)) if line]
    return "\n".join(("| package | what is in it |", "|---|---|", *rows))


def with_map(text: str, written: str) -> str:
    """The text with the table between the two comments. Raises ValueError where they are not."""
    return between(text, BEGIN, END, written)


def between(text: str, begin: str, end: str, written: str) -> str:
    """The text with what was written between two comments. Raises ValueError where they are not."""
    found = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if len(found.findall(text)) != 1 or text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page needs {begin} and {end} once each")
    return found.sub(lambda _: f"{begin}\n{written}\n{end}", text)


def main() -> None:
    """Write the map into the README."""
    README.write_text(with_map(README.read_text(), table()))


if __name__ == "__main__":
    main()
