"""The fronts that a node can have, for tests that hold for every one of them; a new one is a line in FRONTS.

`KINDS` are what a test is run once for each of. A node that runs has two, a native and a grpcio one, at two
addresses: what a journey asks it asks both.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

import pytest

from nodes.client import Client, ClientSettings, Signer
from nodes.serving.started import Started


class Front(NamedTuple):
    """A front by its name, and the environment by which a node serves with it."""

    name: str
    environment: Mapping[str, str]

    def __str__(self) -> str:
        return self.name


GRPCIO: Final = Front("grpcio", MappingProxyType({"TOPNODE_NATIVE__ENABLED": "false"}))
NATIVE: Final = Front("native", MappingProxyType({}))

FRONTS: Final = (GRPCIO, NATIVE)
KINDS: Final = (GRPCIO, pytest.param(NATIVE, marks=pytest.mark.needs("native-front")))

AGREEING_SECONDS: Final = 10.0
"""Within this time, and mostly at once, what one process of a node says every other one says too."""

_Said = TypeVar("_Said")


def addresses(started: Started) -> tuple[str, str]:
    """Where the native front of a node is, and where its grpcio one, which is at both where there is no other."""
    return started.address, started.streaming


def agreed(ask: Callable[[str], _Said], fronts: Iterable[str], so: Callable[[_Said], object]) -> _Said:
    """Ask at the address of each front, and give what the first says once all say the same.

    A change may be known to one process of a node before another. `so` is what must be the same of what they say.
    """
    until = time.monotonic() + AGREEING_SECONDS
    while True:
        said, *others = map(ask, fronts)
        if all(so(other) == so(said) for other in others):
            return said
        told = "\n".join(str(so(each)) for each in (said, *others))
        assert time.monotonic() < until, f"the fronts do not come to say the same:\n{told}"


@asynccontextmanager
async def clients(
    fronts: Iterable[str], settings: ClientSettings | None = None, *, signer: Signer | None = None
) -> AsyncIterator[list[Client]]:
    """Open a client at the address of each front."""
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(Client(each, settings, signer=signer)) for each in fronts]
