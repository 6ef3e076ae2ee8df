"""Print docs/api.md: what `import mmsearch` offers, from its docstrings.

python docs/gen/api_reference.py > docs/api.md
"""

from __future__ import annotations

import importlib
import inspect
import operator
import re
import textwrap
from pathlib import Path
from typing import Any

import mmsearch

INTRODUCTION = """# The API

What `import mmsearch` offers to scripts and notebooks. Each name is imported when it is first used.
[The notebook](notebook.ipynb) shows them at work. Errors are those of the command line, and each is
an `mmsearch.MMSearchError`: an `InputError` for bad input, a `RefusedError` where a result is
protected.

Made by `docs/gen/api_reference.py` from the docstrings, whose examples are tests.
"""
SECTIONS = {
    "Words": ("BUILTIN_CORPUS", "read_corpus", "split_corpus", "build_contexts"),
    "Networks": ("make_spec", "TrialSpec", "train", "Model", "Evaluation"),
    "Studies": ("load_study", "Study"),
    "Errors": ("MMSearchError", "InputError", "RefusedError"),
    "What they return": (
        "data.corpus.Corpus",
        "data.corpus.Vocabulary",
        "data.split.Split",
        "data.contexts.Contexts",
        "model.mlp.Parameters",
        "tracking.journal.records.TrialRecord",
        "tracking.journal.records.SegmentRecord",
        "model.curve.CurvePoint",
    ),
}


def body(text: str) -> str:
    """Return a docstring as Markdown: sections of fields become lists, examples code."""
    text = inspect.cleandoc(text)
    parts = re.split(r"^(Args|Returns|Raises):\n", text, flags=re.MULTILINE)
    made = [_with_examples(parts[0])]
    for title, content in zip(parts[1::2], parts[2::2], strict=True):
        indented = re.match(r"(?:[ ]{4}.*\n?|\n(?=[ ]{4}))+", content)
        assert indented is not None  # noqa: S101 (Google's style)
        fields = textwrap.dedent(indented[0]).strip()
        if title == "Returns":
            made.append(f"Returns: {' '.join(fields.split())}")
        else:
            items = re.findall(r"^(\w+): (.*(?:\n[ ]+.*)*)", fields, flags=re.MULTILINE)
            made.append(
                f"{title}:\n\n"
                + "\n".join(f"- `{name}`: {' '.join(what.split())}" for name, what in items)
            )
        if rest := content[indented.end() :].strip():
            made.append(_with_examples(rest))
    return "\n\n".join(made)


def _with_examples(text: str) -> str:
    before, marker, example = text.partition(">>> ")
    return f"{before}```pycon\n{marker}{example.strip()}\n```" if marker else before.strip()


def signature(name: str, thing: Any) -> str:
    """Return the call of a function, as one line of code."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))
    return f"`{name}{re.sub(r'[(](self|cls)(, )?', '(', text)}`"


def reference(name: str) -> str:
    """Return the section of one name."""
    thing = operator.attrgetter(name)(mmsearch)
    name = name.rpartition(".")[2]
    if isinstance(thing, Path):
        return f"### `{name}`\n\nPath of the word list that comes with mmsearch."
    if not inspect.isclass(thing):
        return f"### {signature(name, thing)}\n\n{body(thing.__doc__ or '')}"
    source, members = inspect.getsource(thing), vars(thing).items()
    fields = [
        f"- `{field}`: {' '.join(found[1].split())}"
        for field in getattr(thing, "__annotations__", {})
        if (found := re.search(rf'^    {field}: .*\n    """((?:.|\n)*?)"""', source, re.MULTILINE))
    ]
    fields += [
        f"- `{member}`: {' '.join((value.__doc__ or '').split())}"
        for member, value in members
        if isinstance(value, property)
    ]
    parts = [f"### `{name}`", body(thing.__doc__ or ""), "\n".join(fields)]
    for member, value in members:
        function = value.__func__ if isinstance(value, classmethod) else value
        is_public = member == "__call__" or not member.startswith("_")
        if is_public and inspect.isfunction(function) and function.__doc__:
            call = name.lower() if member == "__call__" else f".{member}"
            parts += [f"#### {signature(call, function)}", body(function.__doc__)]
    return "\n\n".join(filter(None, parts))


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            if "." in name:
                importlib.import_module(f"mmsearch.{name.rpartition('.')[0]}")
            parts.append(f"{reference(name)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
