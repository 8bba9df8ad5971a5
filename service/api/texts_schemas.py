"""The texts of all templates, as they are answered."""

from typing import Literal

from service.wire import Wire


class Messages(Wire):
    """Texts by template, in `language`; `{name}` stands for a variable."""

    contract_version: str
    language: str
    direction: Literal["ltr", "rtl"]
    templates: dict[str, str]
