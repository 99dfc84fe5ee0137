"""Channels to a node, for its clients: TLS by file paths, message limits, keepalive."""

from collections.abc import Sequence

import grpc
from msgspec import Struct

from resolver.bounds import REQUEST_BYTES
from resolver.rpc.tls import ClientTls, client_credentials
from resolver.units import Duration


class ChannelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client reaches a node."""

    tls: ClientTls | None = None
    """Certificate files; without them the connection is neither encrypted nor proven."""

    tls_name: str = ""
    """The name that the node's certificate must carry, where it is not the host's."""

    keepalive: Duration = Duration(60)
    """A silent connection with calls in flight is probed this often."""


Options = Sequence[tuple[str, int | str]]


def open_channel(address: str, settings: ChannelSettings, options: Options = ()) -> grpc.aio.Channel:
    """Open a channel to `host:port` or `unix:path`, within the running loop. It connects with its first call.

    `options` are gRPC's own, beside those that all channels have here.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
    """
    chosen: list[tuple[str, int | str]] = [
        # Answers stay half a mebibyte below this.
        ("grpc.max_receive_message_length", REQUEST_BYTES),
        ("grpc.keepalive_time_ms", round(settings.keepalive * 1_000)),
        ("grpc.keepalive_timeout_ms", 20_000),
        *options,
    ]
    if settings.tls is None:
        return grpc.aio.insecure_channel(address, options=chosen)
    if settings.tls_name:
        chosen.append(("grpc.ssl_target_name_override", settings.tls_name))
    return grpc.aio.secure_channel(address, client_credentials(settings.tls), options=chosen)
