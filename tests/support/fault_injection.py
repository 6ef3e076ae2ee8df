"""Faults for the commands of `forked_cli`: Python that a command runs before it starts.

Every dotted name of the product that a test patches in a command stands in this file, so that
moving a module changes nothing else in the tests.
"""

from dataclasses import asdict, dataclass

APPEND_LINE = "mmsearch.tracking.journal.files:append"
WRITE_FILE = "mmsearch.tracking.journal.files:replace"
APPEND_SEGMENT = "mmsearch.tracking.journal.journal:Journal.append"
CREATE_MLFLOW_TABLES = "mmsearch.tracking.mlflow.local_database:_make_tables"
READ_CORPUS = "mmsearch.data.corpus:read_corpus"
COUNT_BASELINES = "mmsearch.search.results.baselines:count_baselines"
OPEN_TEST_WORDS = "mmsearch.data.split:SealedTest.open"
CLAIM_IN_OPTUNA = "mmsearch.search.optimizer.claims:OptunaLooks.claim"
WRITE_IN_OPTUNA = "mmsearch.search.optimizer.claims:OptunaLooks.write"
WRITE_IN_USER_LEDGER = "mmsearch.tracking.ledger.user_file:UserLedger.write"
CREATE_IN_MLFLOW = "mmsearch.tracking.ledger.mlflow_runs:MLflowLedger._create"
READ_IN_MLFLOW = "mmsearch.tracking.ledger.mlflow_runs:MLflowLedger.read"
WRITE_IN_MLFLOW = "mmsearch.tracking.ledger.mlflow_runs:MLflowLedger.write"
PUBLISH_MODEL = "mmsearch.tracking.mlflow.registry:publish"
OPTUNA = "optuna.storages:RDBStorage."
OPTUNA_TELL = "optuna:Study.tell"
MLFLOW = "mlflow:MlflowClient."
COPY_FILE = "shutil:copyfileobj"
WAIT_FOR_CHILD = "subprocess:Popen.wait"
START_PROCESS = "multiprocessing.process:BaseProcess.start"

CLAIMED, EVALUATED = "result=None", "result={"
"""What the arguments of a ledger's write hold at a claim, and at its result."""

_OWNER = """
import importlib, os, signal, threading

def owner_of(target):
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    return owner, name
"""

_KILL = """
KILL = {kill!r}
owner, name = owner_of(KILL["call"])
real = getattr(owner, name)
n_calls = 0

def die(*_arguments, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(event, n_left):
    import sqlalchemy
    thread = threading.get_ident()

    def count(*_arguments):
        nonlocal n_left
        if threading.get_ident() == thread:
            n_left -= 1
            if not n_left:
                die()

    sqlalchemy.event.listen(sqlalchemy.Engine, event, count)

def write_half(first, second, *_more):
    if isinstance(second, bytes):  # a path and the content of a file
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
    is_meant = KILL["named"] in repr((args, kwargs))
    n_calls += is_meant
    if not is_meant or n_calls != KILL["nth"]:
        return real(*args, **kwargs)
    if KILL["at"] == "before":
        die()
    elif KILL["at"] == "half":
        write_half(*args)
    elif KILL["at"] != "after":
        die_at(KILL["at"], KILL["nth_event"])
    result = real(*args, **kwargs)
    assert KILL["at"] == "after", "it has no " + KILL["at"]
    die()

setattr(owner, name, call)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """A place where a process is killed with SIGKILL."""

    call: str
    """The function to die in, as `module:function` or `module:Class.method`."""
    at: str
    """`before` or `after` the call, at `half` of what it writes, or, in a call that uses a
    database, at a `commit` or a statement (`before_cursor_execute`) that is then not done."""
    named: str = ""
    """What the call's arguments must contain to count, such as a file's name."""
    nth: int = 1
    """Which of the calls that count."""
    nth_event: int = 1
    """Which of the commits or statements in the call."""

    @property
    def patch(self) -> str:
        """The Python that kills."""
        return _OWNER + _KILL.replace("{kill!r}", repr(asdict(self)))

    def __str__(self) -> str:
        name = self.call.rpartition(":")[2].rpartition(".")[2]
        return "-".join(filter(None, (name, self.named.strip("/'"), self.at)))


def replaced(target: str, function: str) -> str:
    """Return Python that puts a function, an expression that may call `real`, in a place."""
    return f"""{_OWNER}
def replace(target):
    owner, name = owner_of(target)
    real = getattr(owner, name)
    setattr(owner, name, {function})

replace({target!r})
"""


def raising(target: str, error: str) -> str:
    """Return Python that makes a function raise an error, an expression."""
    return replaced(target, f"lambda *_, **__: (_ for _ in ()).throw({error})")


def hurried(flush_s: float, *retry_s: float) -> str:
    """Return Python that uploads every `flush_s` seconds, at once, and tries again after `retry_s`.

    A search of seconds then makes as many calls, and failures in a row, as one of minutes.
    """
    code = f"from mmsearch.tracking import uploader\nuploader.FLUSH_S = {flush_s}\n"
    code += "uploader.SHARE = 1.0\n"
    return code + (f"uploader.RETRY_S = {retry_s!r}\n" if retry_s else "")


STOP_SERVER = replaced(WAIT_FOR_CHILD, "lambda self, timeout=None: self.kill() or 0")
"""Ends `mmsearch ui` once its server has answered; otherwise it would serve for ever."""
KILL_WORKERS = replaced(
    START_PROCESS, "lambda self: (real(self), os.kill(self.pid, signal.SIGKILL))[0]"
)
"""Kills each worker as soon as it has been started."""
SPAWN_WORKERS = """
import multiprocessing
multiprocessing.get_context = multiprocessing.context._default_context.get_context
"""
"""Starts workers as a user's command does, in its environment and folder; see `forked_cli`."""
SEAL_BROKEN = 77
EXIT_AT_TEST_WORDS = replaced(OPEN_TEST_WORDS, f"lambda self, claim: os._exit({SEAL_BROKEN})")
"""Ends a command with `SEAL_BROKEN` where it would read the test words."""
REFUSE_TEST_WORDS = raising(OPEN_TEST_WORDS, "AssertionError('the test split was opened')")
COUNT_LOOKS = replaced(
    OPEN_TEST_WORDS,
    "lambda self, claim: (print(claim.look, file=open('looks', 'a')), real(self, claim))[1]",
)
"""Notes in the file `looks` that the test words were read."""
