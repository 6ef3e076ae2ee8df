"""The number of workers follows a container's limit, and not only the machine's cores."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mmsearch.search.execution.cores import cpu_quota, n_cores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

V1 = "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
V2 = "0::/\n"


def write(root: Path, files: Mapping[str, str]) -> None:
    """Lay out cgroups as the kernel shows them."""
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def quota(root: Path, own: str) -> float | None:
    """Read the quota of a process in these cgroups."""
    (root / "own").write_text(own)
    return cpu_quota(root / "cgroup", root / "own")


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        pytest.param(V2, {"cpu.max": "200000 100000\n"}, 2.0, id="docker --cpus 2"),
        pytest.param(V2, {"cpu.max": "150000 100000\n"}, 1.5, id="docker --cpus 1.5"),
        pytest.param(V2, {"cpu.max": "max 100000\n"}, None, id="no limit"),
        pytest.param(V2, {}, None, id="the host's root, which has no limit"),
        pytest.param(
            "0::/work.slice/job.scope\n",
            {
                "work.slice/cpu.max": "300000 100000\n",
                "work.slice/job.scope/cpu.max": "max 100000\n",
            },
            3.0,
            id="a limit on the cgroup around",
        ),
        pytest.param(
            "0::/../../elsewhere\n", {"cpu.max": "400000 100000\n"}, 4.0, id="outside of the view"
        ),
        pytest.param(
            V1,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
            id="version 1, a path of the host's",
        ),
        pytest.param(
            V1,
            {
                "cpu/docker/abc/cpu.cfs_quota_us": "50000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
            id="version 1, seen from the host",
        ),
        pytest.param(
            V1 + V2,
            {
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "unified/cgroup.procs": "1\n",
            },
            None,
            id="both versions, no limit",
        ),
        pytest.param(V2, {"cpu.max": "soon\n"}, None, id="something else"),
        pytest.param("", {"cpu.max": "100000 100000\n"}, None, id="no cgroups"),
    ],
)
def test_quota_is_the_lowest_limit(
    tmp_path: Path, own: str, files: Mapping[str, str], cores: float | None
) -> None:
    """Whatever the version and the view from inside: `docker run --cpus 2` means two."""
    write(tmp_path, files)
    assert quota(tmp_path, own) == cores


def test_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    """As on macOS."""
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000", 2), ("1000 100000", 1), ("99900000 100000", None)]
)
def test_workers_are_as_many_as_the_quota_lets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int | None
) -> None:
    """At least one, rounded up, and never more than the cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    write(tmp_path, {"cpu.max": text})
    (tmp_path / "own").write_text(V2)
    assert n_cores(tmp_path / "cgroup", tmp_path / "own") == (expected or 64)
