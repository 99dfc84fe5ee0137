"""Joining the results of a batch within the bound of an answer. A pure function; nothing is decoded."""

from collections.abc import Sequence
from typing import Final

from resolver.bounds import ANSWER_BYTES, BATCH_IDENTIFIERS
from resolver.errors import Fault, Reason
from resolver.rpc.errors import error_frame


def field_of(position: int) -> str:
    """Name the identifier at a position of a batch, as errors do."""
    return f"identifiers[{position}]"


def join(frames: Sequence[bytes]) -> bytes:
    """Join frames in their order, at most ANSWER_BYTES.

    A frame that no longer fits is replaced by its own error ANSWER_TOO_LARGE; later ones that still fit stay.
    """
    if sum(map(len, frames)) <= ANSWER_BYTES:
        return b"".join(frames)
    return b"".join(_fitting(frames))


def _fitting(frames: Sequence[bytes]) -> list[bytes]:
    # Kept free for all that is still to come: the frame itself or its error, whichever is shorter.
    reserved = sum(min(len(frame), _ERROR_BYTES) for frame in frames)
    room = ANSWER_BYTES - reserved
    fitting = []
    for position, frame in enumerate(frames):
        beyond = max(0, len(frame) - _ERROR_BYTES)
        if beyond <= room:
            room -= beyond
            fitting.append(frame)
        else:
            fitting.append(_error_at(position))
    return fitting


def _error_at(position: int) -> bytes:
    return error_frame(Fault(Reason.ANSWER_TOO_LARGE, field=field_of(position)))


_ERROR_BYTES: Final = len(_error_at(BATCH_IDENTIFIERS - 1))
