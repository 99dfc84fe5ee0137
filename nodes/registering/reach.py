"""The options by which a command reaches a registry and signs, and the client that they make."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from nodes.asking.reach import DurationParam, Secured, channel_of, secured_options, with_options
from nodes.client import RegistryClient, RegistryClientSettings, Signer
from nodes.client.counting import CountsClient
from resolver.units import Duration

REGISTRY: Final = "127.0.0.1:3643"
"""Where a node takes signed requests by default (`registry.settings`)."""

LOCAL: Final = "local"
"""The operator whose key lies in the data folder (`resolver.trust.operators`)."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class RegistryReach(Secured):
    """What the options of every command say."""

    registry: str
    timeout: Duration
    node: str
    verifier_key: str


class Signing(RegistryReach):
    """What the options of a command that signs say, beside those."""

    actor: str
    key: str
    data: str | None


_REACH: Final = (
    click.option("--registry", default=REGISTRY, metavar="HOST:PORT", show_default=True, help="The registry to ask."),
    click.option(
        "--timeout", default="30s", type=DurationParam(), show_default=True, help="How long a request may take."
    ),
    click.option(
        "--node", default="", metavar="NAME", help="The node that requests are signed for. Default: it is asked."
    ),
    click.option(
        "--verifier-key",
        default="",
        metavar="KEY",
        help="The key of the node's journal, by which receipts are checked. Default: it is asked, and believed.",
    ),
)

_SIGNING: Final = (
    click.option(
        "--actor", default=LOCAL, metavar="NAME", show_default=True, help="The node or operator that signs."
    ),
    click.option("--key", default="", metavar="FILE", help="The actor's private key, PEM."),
    click.option("--data", metavar="DIR", help="Where the key of the operator `local` lies: a node's data folder."),
)


def registry_options(command: _Command) -> _Command:
    """Give a command the options of `RegistryReach`."""
    return with_options(secured_options(command), _REACH)


def signing_options(command: _Command) -> _Command:
    """Give a command the options of `Signing`."""
    return with_options(registry_options(command), _SIGNING)


def open_reader(reach: RegistryReach) -> RegistryClient:
    """Make a client that signs nothing, within the running loop.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
    """
    return RegistryClient(reach["registry"], None, _settings(reach))


def open_signer(signing: Signing) -> RegistryClient:
    """Make a client that signs, within the running loop.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS or key file that is missing or does not fit, KEY_INVALID.
        click.UsageError: an actor without a key.
    """
    signer = Signer.from_file(signing["actor"], _key_file(signing))
    return RegistryClient(signing["registry"], signer, _settings(signing))


def open_counts(signing: Signing) -> CountsClient:
    """Make a client of counts that signs, within the running loop.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS or key file that is missing or does not fit, KEY_INVALID.
        click.UsageError: an actor without a key.
    """
    signer = Signer.from_file(signing["actor"], _key_file(signing))
    return CountsClient(signing["registry"], signer, _settings(signing))


def _settings(reach: RegistryReach) -> RegistryClientSettings:
    return RegistryClientSettings(
        channel=channel_of(reach),
        timeout=reach["timeout"],
        call_timeout=Duration(max(reach["timeout"] / 3, 1.0)),
        node=reach["node"],
        verifier_key=reach["verifier_key"],
    )


def _key_file(signing: Signing) -> Path:
    if signing["key"]:
        return Path(signing["key"])
    if signing["actor"] != LOCAL:
        raise click.UsageError(f"{signing['actor']} signs with its key: name its file with --key.")
    # Imported here: only operators on the node's own machine need its settings.
    from nodes.settings import read  # noqa: PLC0415
    from registry.keyring import OPERATOR_FILE  # noqa: PLC0415

    return read(None, os.environ, {"data": signing["data"]}).settings.data / OPERATOR_FILE
