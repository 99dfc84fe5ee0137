"""The options by which a command reaches a node and proves who asks, and the client that they make."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypedDict, TypeVar, Unpack

import click

from nodes.client import Client, ClientSettings, Signer
from resolver.errors import Fault
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.tls import ClientTls
from resolver.units import Duration

NODE: Final = "127.0.0.1:3641"
"""Where a node listens by default (`resolver.rpc.serving`)."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Secured(TypedDict):
    """What the options of TLS say."""

    tls: bool
    ca: str
    cert: str
    cert_key: str
    tls_name: str


class Reach(Secured):
    """What all options say."""

    node: str
    timeout: Duration
    actor: str
    key: str


class DurationParam(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2 only, and 8.1 will do
    """Text such as 250ms."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        if isinstance(value, Duration):
            return value
        try:
            return Duration.from_text(value)
        except Fault as fault:
            self.fail(fault.detail, param, ctx)


_SECURED: Final = (
    click.option("--tls", is_flag=True, help="Encrypt; the node's certificate is checked by known authorities."),
    click.option(
        "--ca", default="", metavar="FILE", help="Authorities of the node's certificate, PEM; implies --tls."
    ),
    click.option("--cert", default="", metavar="FILE", help="Our certificate, where the node asks for one, PEM."),
    click.option("--cert-key", default="", metavar="FILE", help="Its private key, PEM."),
    click.option("--tls-name", default="", metavar="NAME", help="The name in the node's certificate, if another."),
)

_OPTIONS: Final = (
    click.option("--node", default=NODE, metavar="HOST:PORT", show_default=True, help="The node to ask."),
    click.option(
        "--timeout", default="2s", type=DurationParam(), show_default=True, help="How long a call may take."
    ),
    click.option(
        "--actor", default="", metavar="NAME", help="Sign as this node or operator, to be shown what only it may see."
    ),
    click.option("--key", default="", metavar="FILE", help="The actor's private key, PEM."),
    *_SECURED,
)


def reach_options(command: _Command) -> _Command:
    """Give a command the options of `Reach`."""
    return with_options(command, _OPTIONS)


def secured_options(command: _Command) -> _Command:
    """Give a command the options of `Secured`."""
    return with_options(command, _SECURED)


def with_options(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    """Give a command these options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def channel_of(secured: Secured) -> ChannelSettings:
    """Say how a channel is secured."""
    certificate, key = secured["cert"], secured["cert_key"]
    wants_tls = secured["tls"] or secured["ca"] or certificate or key
    tls = ClientTls(server_ca=secured["ca"], certificate=certificate, key=key) if wants_tls else None
    return ChannelSettings(tls=tls, tls_name=secured["tls_name"])


def open_client(**reach: Unpack[Reach]) -> Client:
    """Make the client, within the running loop.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS or key file that is missing or does not fit, KEY_INVALID.
        click.UsageError: an actor without a key, or the other way round.
    """
    settings = ClientSettings(channel=channel_of(reach), timeout=reach["timeout"])
    return Client(reach["node"], settings, signer=_signer(reach))


def _signer(reach: Reach) -> Signer | None:
    if bool(reach["actor"]) != bool(reach["key"]):
        raise click.UsageError("An actor signs with a key: --actor and --key go together.")
    return Signer.from_file(reach["actor"], reach["key"]) if reach["actor"] else None
