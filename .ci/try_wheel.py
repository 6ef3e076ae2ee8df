"""Build the wheel, install it alone into a new environment, and use it outside the checkout.

The build is pinned by constraints.txt. A path file lends the new environment the dependencies of
the one that runs this script; the package itself must come from the wheel, not from the checkout.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# As a URI, because pip splits paths at spaces.
PINS = (ROOT / "constraints.txt").as_uri()
ENVIRONMENT = {**os.environ, "PIP_CONSTRAINT": PINS, "PIP_BUILD_CONSTRAINT": PINS}

USER = """import mmsearch
corpus = mmsearch.read_corpus("names.txt")
split = mmsearch.split_corpus(corpus)
spec = mmsearch.make_spec(embedding_dim=2, hidden_width=4)
loss: float = mmsearch.train(spec, split, corpus.vocabulary).loss(split.dev)
words: list[str] = mmsearch.load_study("runs").model().sample(3)
wrong: int = mmsearch.load_study("runs").name
"""
"""A user's file, of which a type checker must find the last line, and nothing else, wrong."""


def call(*command: object, cwd: Path) -> str:
    """Run a command and return its output; a failure ends this script."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    scratch = Path(folder)
    call(sys.executable, "-m", "build", "--wheel", "--outdir", scratch, ROOT, cwd=scratch)
    (wheel,) = scratch.glob("*.whl")
    venv.create(scratch / "env", with_pip=True)
    python = scratch / "env/bin/python"
    call(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=scratch)
    site = call(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=scratch
    ).strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    origin = call(python, "-c", "import mmsearch; print(mmsearch.__file__)", cwd=scratch)
    if not Path(origin.strip()).resolve().is_relative_to(scratch.resolve()):
        sys.exit(f"not imported from the wheel: {origin}")
    mmsearch = scratch / "env/bin/mmsearch"
    call(mmsearch, "run", "--trials", 2, "--steps", 200, "--workers", 1, cwd=scratch)
    print(call(mmsearch, "trials", cwd=scratch))
    print(call(mmsearch, "corpus", cwd=scratch))
    (scratch / "user.py").write_text(USER)
    words = [python, "-m", "mypy", "--strict", "user.py"]
    checked = subprocess.run(words, cwd=scratch, capture_output=True, text=True, check=False)
    if "user.py:7: error" not in checked.stdout or "Found 1 error in 1 file" not in checked.stdout:
        sys.exit(f"types do not hold outside the package:\n{checked.stdout}{checked.stderr}")
    print(f"{wheel.name} works outside the checkout")
