"""The options by which a command reaches a node, and the client that they make."""

from collections.abc import Callable
from typing import Any, Final, TypedDict, TypeVar, Unpack

import click

from nodes.client import Client, ClientSettings
from resolver.errors import Fault
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.tls import ClientTls
from resolver.units import Duration

NODE: Final = "127.0.0.1:3641"
"""Where a node listens by default (`resolver.rpc.serving`)."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Reach(TypedDict):
    """What the options say."""

    node: str
    timeout: Duration
    tls: bool
    ca: str
    cert: str
    key: str
    tls_name: str


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


_OPTIONS: Final = (
    click.option("--node", default=NODE, metavar="HOST:PORT", show_default=True, help="The node to ask."),
    click.option(
        "--timeout", default="2s", type=DurationParam(), show_default=True, help="How long a call may take."
    ),
    click.option("--tls", is_flag=True, help="Encrypt; the node's certificate is checked by known authorities."),
    click.option(
        "--ca", default="", metavar="FILE", help="Authorities of the node's certificate, PEM; implies --tls."
    ),
    click.option("--cert", default="", metavar="FILE", help="Our certificate, where the node asks for one, PEM."),
    click.option("--key", default="", metavar="FILE", help="Its private key, PEM."),
    click.option("--tls-name", default="", metavar="NAME", help="The name in the node's certificate, if another."),
)


def reach_options(command: _Command) -> _Command:
    """Give a command the options of `Reach`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_client(**reach: Unpack[Reach]) -> Client:
    """Make the client, within the running loop.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
    """
    wants_tls = reach["tls"] or reach["ca"] or reach["cert"] or reach["key"]
    tls = ClientTls(server_ca=reach["ca"], certificate=reach["cert"], key=reach["key"]) if wants_tls else None
    channel = ChannelSettings(tls=tls, tls_name=reach["tls_name"])
    return Client(reach["node"], ClientSettings(channel=channel, timeout=reach["timeout"]))
