"""What a signature of an answer is worth."""

from enum import IntEnum


class Trust(IntEnum):
    """The verdict over the signature of a child's answer; numbers as on the wire."""

    UNSPECIFIED = 0
    TRUSTED = 1
    UNKNOWN = 2
    NOT_TRUSTED = 3
