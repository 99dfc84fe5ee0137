"""Becoming a node of the node above: applying where it does not know this one, then waiting for its review."""

import logging
from typing import Final

from nodes.client import Fault, Reason, RegistryClient
from nodes.upward.settings import UpwardSettings
from resolver.trust.actors import NodeState, Tier
from resolver.trust.keys import PrivateKey

_log: Final = logging.getLogger(__name__)


class Joining:
    """Asks how this node stands above, and applies where it stands nowhere. `parent` is that node's identifier."""

    def __init__(
        self, *, node: str, tier: Tier, key: PrivateKey, settings: UpwardSettings, client: RegistryClient, parent: str
    ) -> None:
        self._node = node
        self._tier = tier
        self._key = key
        self._settings = settings
        self._client = client
        self._parent = parent
        self._told = ""

    async def is_enabled(self) -> bool:
        """Tell whether this node may sign above.

        Raises:
            Fault: the node above was not reached, or refuses the application.
        """
        try:
            row = await self._client.node(self._node)
        except Fault as fault:
            if fault.reason is not Reason.NODE_UNKNOWN:
                raise
            await self._apply()
            return False
        keys = {key.key_id for key in row.keys if not key.until}
        if row.state is NodeState.ENABLED and self._key.public.key_id in keys:
            self._say("enabled")
            return True
        if row.state is NodeState.ENABLED:
            self._say("enabled, with another key than this one", key=self._key.public.key_id)
        else:
            self._say(row.state.name.lower(), reason=row.reason)
        return False

    async def _apply(self) -> None:
        is_enterprise = self._tier is Tier.ENTERPRISE
        await self._client.apply(
            tier=self._tier,
            organisation=self._settings.organisation,
            parent=(self._settings.parent or self._parent) if is_enterprise else "",
            industry=self._settings.industry,
            agreement=self._settings.agreement,
        )
        self._say("applied")

    def _say(self, standing: str, **more: str) -> None:
        """Log it where it is news."""
        if standing != self._told:
            self._told = standing
            _log.info("at the node above", extra={"node": self._node, "standing": standing, **more})
