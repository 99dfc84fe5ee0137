"""`topnode route`: where the records of a prefix are, and where that answers."""

from collections.abc import Sequence
from typing import Unpack

import click

from nodes.registering.acting import Acting, act, acting_options
from nodes.registering.words import EndpointParam
from resolver.routes import Endpoint, Hosting


@click.group()
def command() -> None:
    """Say where the records of a prefix are, and where that answers."""


@command.command(name="set")
@click.argument("prefix")
@click.option(
    "--hosting",
    type=click.Choice([hosting.name.lower() for hosting in Hosting]),
    required=True,
    help="Where its records have their authority.",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    type=EndpointParam(),
    metavar="URL",
    help="Where it answers: grpc://HOST:PORT, handle-tcp://..., ?priority=N&tls=NAME. Repeatable.",
)
@acting_options
def set_route(prefix: str, *, hosting: str, endpoints: Sequence[Endpoint], **acting: Unpack[Acting]) -> None:
    """Say where the records of PREFIX are, as its holder, in the place of what was said before."""
    act(
        acting,
        lambda client: client.set_route(
            prefix, hosting=Hosting[hosting.upper()], endpoints=endpoints, request_id=acting["request_id"]
        ),
        f"The route of {prefix} is set.",
    )
