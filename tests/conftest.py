"""Services that a test may need: looked for here, never skipped silently.

A test that needs one says `@pytest.mark.needs("name")`. Where the service is missing the test is NOT RUN and stands
in the list at the end, with the command that provides it. With CI=true it fails instead.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

NOT_RUN: Final = "NOT RUN: "

# Before grpc is loaded. Its support for forks can end a child of this process before its exec (grpc/grpc#43157).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


class Service(NamedTuple):
    """How to see whether a service is there, and the command that provides it."""

    is_there: Callable[[], bool]
    provide: str


def _has_package_index() -> bool:
    if shutil.which("apt-cache") is None:
        return False
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False, timeout=60)
    return listed.stdout.count(b"\nPackage: ") > 10_000


def own_mounts() -> tuple[str, ...]:
    """Give the command under which a process may mount a file system that only it sees; nothing where none may.

    As root in a container that allows it, or as anybody where user namespaces are allowed.
    """
    for namespace in (("unshare", "-m"), ("unshare", "-Urm")):
        tried = [*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(tried, capture_output=True, check=False, timeout=60).returncode == 0:
            return namespace
    return ()


SERVICES: Final = {
    "debian-index": Service(_has_package_index, "sudo apt-get update"),
    "mount": Service(lambda: bool(own_mounts()), "sudo sysctl kernel.unprivileged_userns_clone=1"),
    "promtool": Service(lambda: shutil.which("promtool") is not None, "sudo apt-get install prometheus"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        (name,) = mark.args
        service = SERVICES[name]
        if service.is_there():
            continue
        said = f"{NOT_RUN}needs {name}; provide it with: {service.provide}"
        if os.environ.get("CI") == "true":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    not_run = {}
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        not_run[report.nodeid] = reason.removeprefix("Skipped: ").removeprefix(NOT_RUN)
    if not_run:
        terminalreporter.section("NOT RUN", sep="=", yellow=True)
        for nodeid, reason in sorted(not_run.items()):
            terminalreporter.line(f"{nodeid}: {reason}")
