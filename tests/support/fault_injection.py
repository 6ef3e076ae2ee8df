"""`kill -9` at one place: code that a command of `tests/support/forked_cli.py` runs first."""

from __future__ import annotations

from dataclasses import asdict, dataclass

_CODE = """
import importlib, os, signal, threading

PLACE = {place!r}
module, _, path = PLACE["call"].partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for part in owners:
    owner = getattr(owner, part)
real = getattr(owner, name)
n_calls = 0

def die(*_arguments, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(event, n_left):
    import sqlalchemy
    here = threading.get_ident()

    def count(*_arguments):
        nonlocal n_left
        if threading.get_ident() == here:
            n_left -= 1
            if not n_left:
                die()

    sqlalchemy.event.listen(sqlalchemy.Engine, event, count)

def write_half(first, second, *_more):
    if isinstance(second, bytes):  # a file's path and content: no further than to the disk
        sync = os.fsync
        os.fsync = lambda number: (sync(number), die())
        real(first, second[: len(second) // 2])
    else:  # two open files: a copy
        content = first.read()
        second.write(content[: len(content) // 2])
        second.flush()
        die()

def call(*args, **kwargs):
    global n_calls
    is_meant = PLACE["named"] in repr((args, kwargs))
    n_calls += is_meant
    if not is_meant or n_calls != PLACE["nth"]:
        return real(*args, **kwargs)
    if PLACE["at"] == "half":
        write_half(*args)
    elif PLACE["at"] != "after":
        die_at(PLACE["at"], PLACE["nth_event"])
    result = real(*args, **kwargs)
    assert PLACE["at"] == "after", "it has no " + PLACE["at"]
    die()

setattr(owner, name, call)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """Where a process dies."""

    call: str
    """`module:function`, or `module:Class.method`."""
    at: str
    """`half` of what it writes, `after` it has been done, or, of a database, at a `commit` that
    has not been done or a statement (`before_cursor_execute`)."""
    named: str = ""
    """What its arguments must hold to count: a file's name, say."""
    nth: int = 1
    """Of those calls."""
    nth_event: int = 1
    """Of the commits or statements within it."""

    @property
    def patch(self) -> str:
        """Python that makes it so."""
        return _CODE.replace("{place!r}", repr(asdict(self)))

    def __str__(self) -> str:
        name = self.call.rpartition(":")[2].rpartition(".")[2]
        return "-".join(filter(None, (name, self.named.strip("/'"), self.at)))
