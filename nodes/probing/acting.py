"""Takeovers and hand-backs, as signed requests to this node's own registry: so they stand in its journal.

The owner's Unix socket is asked, and `local` signs, whose key lies in the data folder. Where another machine of a
ring is the writer nothing is done here: its own prober acts.
"""

from pathlib import Path
from typing import Final

from nodes.client import RegistryClient, RegistryClientSettings, Signer, Submitted
from registry.keyring import OPERATOR_FILE
from resolver.clock import Clock
from resolver.trust.operators import LOCAL
from resolver.units import Duration

TIMEOUT: Final = Duration(3)
"""Within this time a request is durable, or given up: what was due may not be due any more when it is sent again."""


class Acting:
    """Asks the registry behind a socket, with the key in the data folder."""

    def __init__(self, socket: str, data: Path, node: str, clock: Clock) -> None:
        self._socket = socket
        self._data = data
        self._node = node
        self._clock = clock

    async def take_over(self, node: str, reason: str) -> Submitted:
        """Have this node answer in the place of another that agreed to it.

        Raises:
            Fault: NOT_AUTHORISED without an agreement, METHOD_UNKNOWN where this machine is not the writer;
                FILE_UNREADABLE, KEY_INVALID; as `RegistryClient.send`.
        """
        async with self._client() as client:
            return await client.take_over(node, reason, automatic=True)

    async def hand_back(self, node: str, reason: str) -> Submitted:
        """Have a node answer for itself again.

        Raises:
            Fault: as `take_over`; NOT_AUTHORISED where an operator has begun it.
        """
        async with self._client() as client:
            return await client.hand_back(node, reason, automatic=True)

    def _client(self) -> RegistryClient:
        signer = Signer.from_file(LOCAL, self._data / OPERATOR_FILE)
        settings = RegistryClientSettings(timeout=TIMEOUT, call_timeout=TIMEOUT, node=self._node)
        return RegistryClient(f"unix:{self._socket}", signer, settings, clock=self._clock)
