"""The tables of docs/json.md, which say what each command prints with `--json`."""

import re
from collections.abc import Mapping
from pathlib import Path

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "true or false": (bool,),
    "whole number": (int,),
    "number": (int, float),
    "list": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _documented() -> dict[str, dict[str, str]]:
    """Read the keys of each command, and their kinds."""
    sections = re.split(r"^## `mmsearch ([^`]+) --json`$", _PAGE.read_text(), flags=re.MULTILINE)
    return {
        command: dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE))
        for command, text in zip(sections[1::2], sections[2::2], strict=True)
    }


DOCUMENTED = _documented()


def check_documented(command: str, value: object) -> None:
    """Assert that an object has the documented keys of a command, each of its kind."""
    assert isinstance(value, dict)
    kinds = DOCUMENTED[command]
    assert sorted(value) == sorted(kinds)
    for key, kind in kinds.items():
        name, or_null, _ = kind.partition(" or null")
        types = _KINDS[name] + (_KINDS["null"] if or_null else ())
        assert isinstance(value[key], types), (command, key, value[key])
        # A bool is an int to Python.
        assert not isinstance(value[key], bool) or bool in types, (command, key, value[key])
