"""Who this node is to the one above: the key with which it signs there, and where it is found."""

from pathlib import Path
from typing import Final

from nodes.listening import Address
from nodes.registering.words import endpoint_from_text
from nodes.upward.settings import UpwardSettings
from registry.keyring import kept_key
from resolver.errors import Fault, Reason
from resolver.routes import Endpoint, Protocol
from resolver.rpc.tls import client_credentials
from resolver.trust.keys import PrivateKey
from resolver.trust.notes import read_verifier_key

KEY_FILE: Final = "node.pem"
"""This node's own private key in its data folder, where the settings name no other."""

_ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not listened on


def own_key(settings: UpwardSettings, data: Path) -> PrivateKey:
    """Read this node's own key; the one in the data folder is made where there is none.

    Raises:
        Fault: KEY_INVALID, FILE_UNREADABLE.
    """
    return PrivateKey.from_file(settings.key) if settings.key else kept_key(data / KEY_FILE)


def endpoints_of(settings: UpwardSettings, serving: str, *, has_tls: bool) -> tuple[Endpoint, ...]:
    """Give where callers who are sent here find this node: as set, else where it serves.

    Raises:
        Fault: SETTING_INVALID with the field `upward.endpoints`: it cannot be told from where the node serves.
    """
    if settings.endpoints:
        try:
            return tuple(endpoint_from_text(each) for each in settings.endpoints)
        except Fault as fault:
            raise Fault(Reason.SETTING_INVALID, fault.detail, field="upward.endpoints") from None
    address = Address.from_text(serving, field="serving.address")
    if address.host in _ANYWHERE or has_tls:
        raise Fault(
            Reason.SETTING_INVALID,
            f"Where others find this node does not follow from {serving}: name its endpoints.",
            field="upward.endpoints",
        )
    # Port 0 becomes a real one before the node serves; here it is only seen by whoever checks settings.
    return (Endpoint(Protocol.GRPC, address.host, address.port or 1),)


def _check_verifier_key(text: str) -> None:
    if not text:
        return
    try:
        read_verifier_key(text)
    except Fault as fault:
        raise fault.anew(field="upward.verifier_key") from None


def _check_tls(settings: UpwardSettings) -> None:
    if settings.tls is None:
        return
    try:
        client_credentials(settings.tls)
    except Fault as fault:
        raise fault.anew(field=f"upward.{fault.field}") from None


def check_upward(settings: UpwardSettings, data: Path, serving: str, *, tier: str, has_tls: bool) -> None:
    """Check what can be checked without starting.

    Raises:
        Fault: SETTING_INVALID, KEY_INVALID, FILE_UNREADABLE.
    """
    if not settings.is_set:
        return
    if tier == "top":
        detail = "There is no node above a top-level node: `topnode serve secondary` or `topnode serve enterprise`."
        raise Fault(Reason.SETTING_INVALID, detail, field="upward.registry")
    Address.from_text(settings.registry, field="upward.registry")
    endpoints_of(settings, serving, has_tls=has_tls)
    _check_verifier_key(settings.verifier_key)
    _check_tls(settings)
    if settings.key or (data / KEY_FILE).exists():
        own_key(settings, data)
