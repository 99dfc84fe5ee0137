"""Joining the results of a batch within the bound of an answer."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver import wire
from resolver.answer import Outcome
from resolver.bounds import ANSWER_BYTES, BATCH_IDENTIFIERS, RECORD_BYTES
from resolver.encoding import varint
from resolver.errors import Fault, Reason
from resolver.front.batches import join
from resolver.rpc.errors import error_frame, fault_of
from resolver.v1 import resolver_pb2 as pb


def _frame(size: int) -> bytes:
    record = pb.Record(registrant="x" * size).SerializeToString()
    body = wire.bare_body(Outcome.FOUND) + b"\x12" + varint(len(record)) + record
    return wire.frame(body)


SMALLEST = wire.frame(wire.bare_body(Outcome.ABSENT))
LARGEST = _frame(RECORD_BYTES)
FRAMES = [SMALLEST, error_frame(Fault(Reason.IDENTIFIER_EMPTY)), *map(_frame, (170, 3_000, 40_000)), LARGEST]

batches = st.lists(st.sampled_from(FRAMES), max_size=BATCH_IDENTIFIERS) | st.lists(
    st.sampled_from(FRAMES[3:]), min_size=500, max_size=BATCH_IDENTIFIERS
)


def _results(octets: bytes) -> list[bytes]:
    """Give each result as a frame again."""
    return [pb.BatchResolveResponse(results=[each]).SerializeToString() for each in _parsed(octets)]


def _parsed(octets: bytes) -> list[pb.BatchResult]:
    return list(pb.BatchResolveResponse.FromString(octets).results)


@settings(max_examples=40, deadline=None)
@given(batches)
def test_every_identifier_has_a_result_in_its_place_within_the_bound(frames: list[bytes]) -> None:
    joined = join(frames)
    assert len(joined) <= ANSWER_BYTES
    results = _results(joined)
    assert len(results) == len(frames)
    for position, (result, frame) in enumerate(zip(results, frames, strict=True)):
        if result != frame:
            fault = fault_of(pb.BatchResolveResponse.FromString(result).results[0].error)
            assert (fault.reason, fault.field) == (Reason.ANSWER_TOO_LARGE, f"identifiers[{position}]")


@settings(max_examples=40, deadline=None)
@given(batches)
def test_nothing_is_left_out_that_would_have_fitted(frames: list[bytes]) -> None:
    joined = join(frames)
    left_out = [frame for frame, result in zip(frames, _results(joined), strict=True) if frame != result]
    if sum(map(len, frames)) <= ANSWER_BYTES:
        assert joined == b"".join(frames)
    for frame in left_out:
        assert len(joined) + len(frame) > ANSWER_BYTES


def test_a_thousand_of_the_largest_still_get_a_result_each() -> None:
    results = _parsed(join([LARGEST] * BATCH_IDENTIFIERS))
    answered = sum(result.WhichOneof("result") == "answer" for result in results)
    assert len(results) == BATCH_IDENTIFIERS
    assert answered == 13, "the room for 987 errors is that of one answer"


def test_exactly_the_bound_is_within_it() -> None:
    room = ANSWER_BYTES - 13 * len(LARGEST)
    last = _frame(room - 100)
    last = _frame(room - 100 + room - len(last))
    frames = [LARGEST] * 13 + [last]
    assert sum(map(len, frames)) == ANSWER_BYTES
    assert join(frames) == b"".join(frames)
    assert fault_of(_parsed(join([*frames, SMALLEST]))[13].error).reason is Reason.ANSWER_TOO_LARGE
