# ruff: noqa: PYI021 - what this promises stands here, because the module itself is Rust
"""The native gRPC front: HTTP/2, framing, limits and the cache of ready answers, on one thread of its own.

Python is asked what the cache does not know: `fileno` is readable while requests wait, `take` takes them and `answer`
replies. Nothing of it blocks but `counts`, `stats` (a moment), `drain` and `close`; all of those release the GIL.
Beside it there is a client that has no thread.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, final

Trailers: TypeAlias = Sequence[tuple[str, bytes]]
"""Trailing metadata. Values of keys that end in `-bin` are plain bytes here and base64 on the wire."""

Taken: TypeAlias = tuple[
    int, int, bytes | list[tuple[int, bytes]], int, str, bytes | None, list[tuple[str, bytes]], bytes
]
"""A question: token, number of the path in `paths`, body, milliseconds left, peer as gRPC writes it
(`ipv4:1.2.3.4:5`), identity (a verified client certificate's first alternative name, else its common name), and the
metadata among `python_keys`. The body is the message's bytes, or the missing identifiers of a plain batch with
their positions; then come last the options that say how far to go (mode and path, encoded; empty: as without)."""

Run: TypeAlias = tuple[bytes, int, list[bytes], int, str, bytes | None, bytes]
"""Plain questions of one connection for one identifier each: tokens, eight bytes each (little-endian), number of the
path, identifiers, milliseconds that are left for the last of them, peer, identity and options."""

State: TypeAlias = tuple[float, int, int]
"""As of when answers are given: the moment, on the clock by which they expire; the generation of routes of which
alone they may be kept; and the newest sequence of prefix changes that was known when they were asked for."""

Frame: TypeAlias = tuple[bytes, int, float, int, int, bytes, bytes, bool]
"""One answer: frame (one result of a BatchResolveResponse: tag, length, unary response), outcome (0: an error, good
for its own position only; 2: absent, which has a share of its own), moment until which it may be kept (0: not at
all), generation, journal index of the state that was read, tag for counting (empty: not counted), canonical key
(empty: it is not kept), and whether it is the node's own word, which is given whatever options say how far to go; any
other is kept for requests without such options, and given to those."""

Reply: TypeAlias = tuple[int, int, bytes | list[tuple[int, Frame]], str, Trailers]
"""Token, gRPC code, payload, message, trailers. With code 0 the payload is the response's bytes, or, for a question
of identifiers, a frame for each of them with its position (trailers are not given then). With any other code the
payload is not looked at."""

Ended: TypeAlias = tuple[int, int, bytes, str, list[tuple[str, bytes]], bool]
"""How a call of a client ended: token, gRPC code, the response's bytes (with code 0), text, trailing metadata (values
of keys that end in `-bin` are plain bytes), and whether the server has certainly not seen it."""

Refusal: TypeAlias = tuple[int, str, bytes]
"""gRPC code, message, and a google.rpc.Status as bytes (empty: none)."""

def batch_answers(octets: bytes) -> list[bytes] | None:
    """Give the encoded answers in a BatchResolveResponse; None where it has anything else."""

def usual_answers(
    results: Sequence[object], wanted: Sequence[object], terms: tuple[str, int, float, float, int]
) -> list[tuple[bytes, float] | None]:
    """Make the answers of a child this node's own where they are usual: frame, and seconds for which it may be kept.

    None stands for what is not an encoded answer, and for any that Python is to look at. `wanted` have a `key`, the
    folded prefix `below` which the child was asked, and `case_sensitive`. `terms`: the child, the number of the
    protocol, Unix time, the most seconds for which a record is believed, and the number of what a signature is worth.
    """

@final
class Front:
    """A gRPC front on an address of its own."""

    port: int
    """The bound port; 1 for a Unix socket."""

    def __init__(
        self,
        *,
        address: str,
        paths: Sequence[tuple[str, str, int, Refusal | None]],
        python_keys: Sequence[str],
        refer: str,
        batch_identifiers: int,
        answer_bytes: int,
        refusals: Mapping[str, Refusal],
        streams: int,
        connections: int,
        connections_per_peer: int,
        flights: int,
        buffered_bytes: int,
        body_timeout_ms: int,
        deadline_ms: int,
        connection_age_ms: int,
        connection_grace_ms: int,
        keepalive_ms: int,
        keepalive_timeout_ms: int,
        ping_interval_ms: int,
        cache_bytes: int,
        absent_bytes: int,
        entry_bytes: int,
        spellings: int,
        latency_bounds_ms: Sequence[float],
        tls: tuple[bytes, bytes, bytes | None] | None = None,
    ) -> None:
        """Bind and listen; nothing is accepted before `start`.

        `address`: `host:port` (0: any free one; shared with other processes by SO_REUSEPORT), or `unix:` and a path.
        `paths`: full paths, each with its kind: "one" and "batch" are answered out of the cache where the request is
        plain, "other" never, "refer" is told `refer` (UNIMPLEMENTED). A message with more than so many bytes is
        refused on its declared length, or once more have been unpacked: as is said beside, or as too_large. The
        health check is added behind them.
        `python_keys`: a call with such a metadata key goes to Python whole.
        `answer_bytes`: a longer batch goes to Python whole. `refusals` by name: too_large, deadline, busy,
        body_timeout, compressed, malformed_frame, draining, health_unknown, unknown_method, elsewhere; those not
        given have standard ones.
        `flights`: questions that Python has at most. `buffered_bytes`: of requests, and likewise of answers that are
        not read yet: calls wait for room while a half of that is taken, or 4 MiB of their own connection's.
        `cache_bytes`, `absent_bytes`: shares for found and absent answers. `entry_bytes`: longer ones are not kept.
        `spellings`: ways of writing by which one key is found, the canonical one included.
        `tls`: certificate chain, key and authorities of client certificates (then every client needs one), all PEM.

        Raises:
            OSError: the address cannot be bound.
            ValueError: a kind, a refusal, a key or the TLS material is not one.
        """

    def start(self) -> None:
        """Accept connections, on a thread of its own. Once.

        Raises:
            RuntimeError: it was started or closed before.
        """

    def fileno(self) -> int:
        """Give the descriptor that is readable exactly while questions wait."""

    def take(self, limit: int) -> tuple[list[Taken], list[Run]]:
        """Take up to so many questions, fewer where they are large, without waiting. Late ones are left out.

        A run has no more of them than a batch may have identifiers.
        """

    def answer(self, replies: Sequence[Reply], state: State) -> None:
        """Reply. A token whose time is over or that is not known is ignored.

        Raises:
            ValueError, TypeError: a reply has not this shape: its caller was told INTERNAL, the others are given.
        """

    def answer_run(self, tokens: bytes, frames: list[Frame], state: State) -> list[int]:
        """Reply to each of these tokens with a frame; give the places of errors, which are still to be replied to.

        Raises:
            ValueError, TypeError: as `answer`; or there are not as many of them, and none was given.
        """

    def drop(self, keys: Sequence[bytes], index: int) -> None:
        """Forget these keys, which changed at this journal index; holds for all requests that are read from now on.

        An answer that was read as of an older state is given and not kept.
        """

    def changed(self, prefixes: Sequence[bytes], sequence: int) -> None:
        """Void the answers below these prefixes that were read before this change."""

    def clear(self, index: int) -> None:
        """Forget all answers: what was read as of an older journal index is not kept."""

    def current_for(self, milliseconds: int) -> None:
        """Give answers out of the cache for so long from now on. Without that there are no hits."""

    def set_health(self, services: Mapping[str, bool]) -> None:
        """Say which services are served; the empty name is the whole node."""

    def replace_tls(self, certificate: bytes, key: bytes, client_ca: bytes | None = None) -> None:
        """Use this for new connections.

        Raises:
            ValueError: it cannot be used; what is in use stays.
        """

    def counts(self) -> list[tuple[bytes, int, int]]:
        """Give the tags of answered identifiers, added up since the last time: of direct and of recursive requests.

        Raises:
            RuntimeError: the front is not running.
        """

    def stats(self) -> dict[str, Any]:
        """Give all numbers since the start.

        `calls`: (path, code) to calls. `cancelled`: path to calls whose callers went away. `latency`: (path, tier),
        tier "front" or "python", to (calls by `latency_bounds_ms` and one more, seconds in all). `refused`: by name.
        `cache`: hits, misses, stale (of the misses), refused, evicted, bytes, entries. `identifiers`: by outcome.
        `connections`, `waiting` (calls held), `buffered_bytes` (of requests), `unread_bytes` (of answers that are not
        read, or are to come), `flights`: now. `accepted`, `turned_away`, `handshakes_failed`, `calmed` (sent away for
        flooding), `stalled` (took nothing), `parked` (calls that waited for room for their answers), `joined` (calls
        that shared a flight), `panics`.

        Raises:
            RuntimeError: the front is not running.
        """

    def drain(self, grace_ms: int) -> None:
        """Stop listening, send GOAWAY, and wait until what is in flight has ended or the grace is over.

        Questions must still be taken and answered meanwhile, on another thread. `counts` and `stats` still answer.
        """

    def close(self) -> None:
        """End at once, and wait for the thread."""

@final
class Client:
    """A gRPC client's end of one HTTP/2 connection, for unary calls, without a socket. Of one thread alone.

    Whatever is done is followed by `go_on`. Messages are not compressed. There are no deadlines here but what the
    server is told: whoever waits no longer cancels.
    """

    def __init__(self, authority: str, *, is_tls: bool, message_bytes: int) -> None:
        """Begin: the preface is to be sent.

        `authority` is whom requests name. A response of more than `message_bytes` ends its call: RESOURCE_EXHAUSTED.

        Raises:
            ValueError: the authority is not one.
        """

    def call(self, path: str, message: bytes, within: float) -> int:
        """Begin a call that has so many seconds, and give its token; its end comes by `go_on`, unless cancelled.

        Raises:
            ValueError: the path or the time is not one.
        """

    def cancel(self, token: int) -> None:
        """End a call; one that has ended is ignored."""

    def ping(self) -> None:
        """Ask the server for a sign of life; again only after that has come."""

    def receive(self, octets: bytes) -> None:
        """Take bytes that came."""

    def end(self) -> None:
        """Note that no more bytes come: all calls end."""

    def go_on(self) -> tuple[bytes, list[Ended]]:
        """Give the bytes that are to be sent now, and the calls that have ended."""

    @property
    def is_over(self) -> bool:
        """Is the connection at its end, so that the socket is to be closed once everything is sent?"""
