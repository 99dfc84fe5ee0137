"""How each front speaks HTTP/2, by h2spec: what it fails is listed here with its reason.

h2spec asks as a browser would, by GET and without a content type: no gRPC server answers that with a body.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.fronts import FRONTS, GRPCIO, KINDS, NATIVE, Front
from tests.running_node import RunningNode
from tests.services import programs

pytestmark = pytest.mark.needs("h2spec")

PATH: Final = "/topnode.resolver.v1.ResolverService/Resolve"
AT_ONCE: Final = 24
"""Cases that run side by side: most of the time each waits for what does not come."""

SECONDS: Final = 1
"""How long a case waits, at least one."""

AGAIN: Final = 4
"""Times that a case is run again before it counts as failed."""

GROUPS: Final = {"Generic": "generic", "Hypertext": "http2", "HPACK": "hpack"}

KNOWN: Final[Mapping[str, Mapping[str, str]]] = {
    GRPCIO.name: {
        "an answer without a body, and RST_STREAM behind it, is what somebody gets who makes no gRPC call": """
            generic/2/2 generic/2/3 generic/3.1/1 generic/3.1/2 generic/3.1/3 generic/3.2/1 generic/3.2/3
            generic/3.3/1 generic/3.3/2 generic/3.3/3 generic/3.3/4 generic/3.3/5 generic/3.9/2 generic/3.10/1
            generic/3.10/2 generic/4/1 generic/4/3 generic/4/4 generic/5/1 generic/5/2 generic/5/3 generic/5/4
            generic/5/5 generic/5/6 generic/5/7 generic/5/8 generic/5/9 generic/5/10 generic/5/11 generic/5/12
            generic/5/13 generic/5/14 generic/5/15 http2/4.2/1 http2/6.5.3/1 http2/6.9.1/1 http2/6.9.2/1
            http2/6.9.2/2 http2/6.10/1""",
        "a flag or a bit that nobody knows ends the connection": "http2/4.1/2 http2/4.1/3",
        "frames for streams that are not there, or no longer, are passed over": """
            generic/2/5 http2/5.1/1 http2/5.1/2 http2/5.1/3 http2/5.1/5 http2/5.1/6 http2/5.1/8 http2/5.1/9
            http2/5.1/11 http2/5.1/12 http2/5.1/13 http2/5.1.1/1 http2/5.1.1/2 http2/6.1/2 http2/6.4/2 http2/6.9/2
            http2/8.1/1""",
        "frames for a stream that are the connection's, or the other way round, are passed over": """
            http2/5.4.1/1 http2/6.1/1 http2/6.2/3 http2/6.3/1 http2/6.4/1 http2/6.7/3 http2/6.8/1""",
        "PRIORITY and PUSH_PROMISE are passed over whole": "http2/5.3.1/1 http2/5.3.1/2 http2/6.3/2 http2/8.2/1",
        "a frame that is too long or wrongly padded ends its stream, not the connection": """
            http2/4.2/3 http2/6.1/3 http2/6.2/4""",
        "a window above 2^31-1 is let be": "http2/6.9.1/2 http2/6.9.1/3",
        "a Huffman code that is padded too long ends its stream": "hpack/5.2/1",
        "headers that HTTP/2 forbids are told by a gRPC status, or passed over": """
            http2/8.1.2/1 http2/8.1.2.1/1 http2/8.1.2.1/2 http2/8.1.2.1/3 http2/8.1.2.1/4 http2/8.1.2.2/1
            http2/8.1.2.2/2 http2/8.1.2.3/1 http2/8.1.2.3/2 http2/8.1.2.3/3 http2/8.1.2.3/4 http2/8.1.2.3/5
            http2/8.1.2.3/6 http2/8.1.2.3/7""",
        "a content length is not looked at": "http2/8.1.2.6/1 http2/8.1.2.6/2",
    },
    NATIVE.name: {
        "an answer without a body is what somebody gets who makes no gRPC call": "generic/2/2 generic/2/3",
        "what is no HTTP/2 is not read to its end, so that TCP says RST and not FIN": "http2/3.5/2",
        "calls are answered before there are too many": "http2/5.1.2/1",
        "what is no gRPC call is answered at its headers, before the second ones come": "http2/8.1/1",
    },
}
"""What may fail, by front: why, and the cases.

Some fail now and then: when an answer comes before the frame that they are about.
"""


def program() -> str:
    found = programs.h2spec()
    assert found
    return found


def cases() -> Iterator[str]:
    """Name all cases, as h2spec takes them: http2/5.1/3 is the third one of RFC 7540 section 5.1."""
    listed = subprocess.run([program(), "--dryrun"], capture_output=True, check=True, text=True, timeout=30).stdout
    group = section = ""
    for line in listed.splitlines():
        if (first := line.partition(" ")[0].rstrip(":")) in GROUPS:
            group = GROUPS[first]
        elif found := re.match(r"\s+([\d.]+)\. ", line):
            section = found[1]
        elif found := re.match(r"\s+(\d+): ", line):
            yield f"{group}/{section}/{found[1]}"


def failed(address: str, *names: str) -> dict[str, str]:
    """Run these cases: what h2spec says of those that fail."""
    host, _, port = address.rpartition(":")
    command = [program(), "-h", host, "-p", port, "--path", PATH, "-o", str(SECONDS)]

    def run(name: str) -> tuple[str, str]:
        ran = subprocess.run([*command, name], capture_output=True, check=False, text=True, timeout=60)
        assert "1 tests" in ran.stdout, ran.stdout
        return name, ran.stdout if ran.returncode else ""

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return {name: said for name, said in threads.map(run, names) if said}


def known(front: Front) -> set[str]:
    return {name for listed in KNOWN[front.name].values() for name in listed.split()}


@pytest.mark.parametrize("front", KINDS, ids=str)
def test_what_a_front_fails_is_known(front: Front, tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "data", tmp_path / "log", ["--workers", "0"], front.environment)
    try:
        node.wait_ready()
        address = node.address
        wrong = failed(address, *cases())
        # Again, and one at a time: on a busy machine a case's second goes by, or its answer comes before the frame
        # that it is about, and neither says anything. What is wrong is so each time.
        unexpected = {name: said for name, said in wrong.items() if name not in known(front)}
        for _ in range(AGAIN):
            unexpected = {name: said for each in unexpected for name, said in failed(address, each).items()}
    finally:
        node.stop()
    assert not unexpected
    assert wrong.keys() & known(front), "none of these fails any more: they come off the list"


def test_what_is_known_is_a_case() -> None:
    assert {name for front in FRONTS for name in known(front)} <= set(cases())
