"""Two hosts on one machine: network namespaces with addresses of their own, joined by a cable."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace."""

    address: str
    """IP address."""
    pid: int
    """A process that is in it."""

    def words(self, *command: str) -> list[str]:
        """Return the command that runs a command there."""
        return ["nsenter", "--target", str(self.pid), "--net", *command]

    def run(self, *command: str) -> None:
        """Run a command there to its end."""
        subprocess.run(self.words(*command), check=True, capture_output=True)

    def cut(self) -> None:
        """Take the cable out; nobody is told."""
        self.run("ip", "link", "set", "cable", "down")


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Make two hosts; skips the test where that is not allowed."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        pytest.skip("network namespaces need root, iproute2 and util-linux")
    with ExitStack() as stack:
        hosts = []
        for number in (1, 2):
            words = ["unshare", "--net", "sh", "-c", "echo && exec sleep infinity"]
            holder = stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
            stack.callback(holder.kill)
            assert holder.stdout is not None
            if not holder.stdout.readline():
                pytest.skip("network namespaces are not allowed here")
            hosts.append(Host(f"10.77.0.{number}", holder.pid))
        one, two = hosts
        peer = ("peer", "name", "cable", "netns", str(two.pid))
        one.run("ip", "link", "add", "cable", "type", "veth", *peer)
        for host in hosts:
            host.run("ip", "addr", "add", f"{host.address}/24", "dev", "cable")
            host.run("ip", "link", "set", "lo", "up")
            host.run("ip", "link", "set", "cable", "up")
        yield one, two
