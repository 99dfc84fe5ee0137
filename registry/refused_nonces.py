"""Nonces of requests that were refused: the same envelope is not taken later, when what refused it has changed.

In memory only. Such a request is no entry, and nothing of it is written; a restart forgets them.
"""

from collections import OrderedDict
from typing import Final

from resolver.store import Nonce

NONCES_MAX: Final = 100_000
"""So many are remembered; of more, those that came first are forgotten."""


class RefusedNonces:
    """Remembers nonces as long as their envelopes could be fresh."""

    def __init__(self, most: int = NONCES_MAX) -> None:
        self._most = most
        self._nonces: OrderedDict[Nonce, None] = OrderedDict()

    def __contains__(self, nonce: Nonce) -> bool:
        return nonce in self._nonces

    def __len__(self) -> int:
        return len(self._nonces)

    def add(self, nonce: Nonce) -> None:
        """Remember one."""
        self._nonces[nonce] = None
        if len(self._nonces) > self._most:
            self._nonces.popitem(last=False)

    def tell_time(self, at: int) -> None:
        """Forget those that came first, as far as their time is over (Unix seconds)."""
        while self._nonces and next(iter(self._nonces)).until < at:
            self._nonces.popitem(last=False)
