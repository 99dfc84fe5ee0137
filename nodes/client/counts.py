"""What a client counts of its own doings: plain numbers, which whoever owns the client may show."""

from msgspec import Struct


class Counts(Struct):
    """Since the client was made.

    `calls` are calls of the node, retries included. `signed_anew` are requests that had to be signed once more, under
    the same request id, because the envelope had expired or its times did not suit the node. `clock_corrections` are
    times at which the client's clock was found to differ from the node's, and corrected.
    """

    calls: int = 0
    retries: int = 0
    signed_anew: int = 0
    clock_corrections: int = 0
