"""How many cores this process may use, a container's limit included."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def n_cores(root: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Count the cores that this process may use: those it may run on, and no more than its quota.

    A quota of one and a half cores counts as two. Not every system tells.

    Args:
        root: as of `cpu_quota`.
        own: likewise.
    """
    if hasattr(os, "sched_getaffinity"):
        n_usable = len(os.sched_getaffinity(0))
    else:
        n_usable = os.cpu_count() or 1
    quota = cpu_quota(root, own)
    return n_usable if quota is None else max(1, min(n_usable, math.ceil(quota)))


def cpu_quota(root: Path = _CGROUPS, own: Path = _OWN) -> float | None:
    """Return the processor time that Linux lets this process use, in cores; None without a limit.

    Affinity does not show it: `docker run --cpus 2` leaves all cores visible. The limits of a
    cgroup and of those that it lies in hold together, so that the lowest counts. Read here and
    not by `joblib.cpu_count`, which takes 0.1 s to import and knows the outermost cgroup alone.

    Args:
        root: where the cgroups are mounted, of version 1, 2 or both.
        own: lists the cgroups of this process, as in /proc.
    """
    try:
        lines = own.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    quotas = [_quota(folder) for line in lines for folder in _folders(root, line)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _folders(root: Path, line: str) -> Iterator[Path]:
    """Find the folders of a cgroup and of those that it lies in.

    In a container the path may be the host's: then it is not there, and the outermost folder has
    the container's limit.
    """
    _, controllers, path = line.split(":", 2)
    if not controllers:
        bases = {root}
    elif "cpu" in controllers.split(","):
        bases = {root / "cpu", root / controllers}
    else:
        return
    inner = PurePosixPath(path.lstrip("/"))
    if ".." in inner.parts:  # outside of what this process can see
        inner = PurePosixPath()
    for base in bases:
        yield from (base / each for each in (inner, *inner.parents))


def _quota(folder: Path) -> float | None:
    """Read the limit of one cgroup, in cores; None where it has none or is not there."""
    try:
        if (path := folder / "cpu.max").exists():
            time_us, period_us = map(int, path.read_text().replace("max", "-1", 1).split())
        else:
            time_us = int((folder / "cpu.cfs_quota_us").read_text())
            period_us = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return time_us / period_us if time_us > 0 and period_us > 0 else None
