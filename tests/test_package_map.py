"""The README's map of the packages agrees with the packages and their docstrings."""

from pathlib import Path

import pytest

from scripts import package_map


def test_every_package_says_in_one_sentence_what_is_in_it() -> None:
    sentences = dict(package_map.packages())
    assert {"domain", "projections", "service", "service/api", "sql", "tests"} <= sentences.keys()
    assert [path for path, line in sentences.items() if not line.endswith(".")] == []


def test_the_map_in_the_readme_agrees_with_the_docstrings() -> None:
    text = package_map.README.read_text()
    assert text == package_map.with_map(text, package_map.table()), "run make map"


def test_a_changed_docstring_changes_the_map(tmp_path: Path) -> None:
    docstrings = {"domain": "Rules.", "service": "Packages.", "service/http": "HTTP.\n\nMore."}
    for path, docstring in docstrings.items():
        (tmp_path / path).mkdir()
        (tmp_path / path / "__init__.py").write_text(f'"""{docstring}"""\n')
    assert package_map.table(tmp_path).splitlines()[2:] == [
        "| `domain/` | Rules. |",
        "| `service/` | Packages. |",
        "| `service/http/` | HTTP. |",
    ]


def test_a_readme_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="needs"):
        package_map.with_map("# Throughline\n", "| package |")
