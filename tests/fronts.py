"""The fronts that a node can have, for tests that hold for every one of them; a new one is a line in FRONTS.

`KINDS` are what a test is run once for each of.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import pytest

from nodes.serving.started import Started


class Front(NamedTuple):
    """A front by its name, the environment by which a node has it, and where that node then says that it listens."""

    name: str
    environment: Mapping[str, str]
    address_in: Callable[[Started], str]

    def __str__(self) -> str:
        return self.name


GRPCIO: Final = Front("grpcio", MappingProxyType({}), lambda started: started.address)
NATIVE: Final = Front(
    "native",
    MappingProxyType({"TOPNODE_NATIVE__ADDRESS": "127.0.0.1:0"}),
    lambda started: started.native,
)

FRONTS: Final = (GRPCIO, NATIVE)
KINDS: Final = (GRPCIO, pytest.param(NATIVE, marks=pytest.mark.needs("native-front")))
