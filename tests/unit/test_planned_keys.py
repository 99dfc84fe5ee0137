"""What is planned below a prefix: the same that looking at every key would say, without doing so."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from registry.planned_keys import PlannedKeys

PREFIXES = st.text("18.", min_size=1, max_size=4).map(str.encode)
KEYS = st.tuples(PREFIXES, st.text("a./0", max_size=3).map(str.encode)).map(b"/".join)


@given(st.lists(st.tuples(st.lists(KEYS, max_size=4), PREFIXES), max_size=6))
def test_it_is_what_looking_at_every_key_says(steps: list[tuple[list[bytes], bytes]]) -> None:
    """However keys and questions take turns."""
    keys: dict[bytes, None] = {}
    planned = PlannedKeys(keys)
    for added, prefix in steps:
        keys.update(dict.fromkeys(added))
        beginnings = (prefix + b".", prefix + b"/")
        assert planned.holds_below(prefix) is any(key.startswith(beginnings) for key in keys)


class Watched(dict[bytes, None]):
    """Counts how often somebody begins to look at all of it."""

    looked = 0

    def __iter__(self) -> Iterator[bytes]:
        self.looked += 1
        return super().__iter__()


def test_many_questions_look_at_the_keys_once() -> None:
    keys = Watched({b"88.%d/A" % number: None for number in range(1_000)})
    planned = PlannedKeys(keys)
    assert all(planned.holds_below(b"88.%d" % number) for number in range(1_000))
    assert not planned.holds_below(b"88.1000")
    assert keys.looked == 1
