"""The fronts that a node can have, for tests that hold for every one of them; a new one is a line in FRONTS.

`KINDS` are what a test is run once for each of.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import pytest


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
