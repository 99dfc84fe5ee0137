"""From identifiers as callers spell them to canonical keys: checked, and below which prefix. Asks no store."""

from collections.abc import Iterable, Sequence
from typing import Final

from resolver.answer import Failed, Ready
from resolver.bounds import IDENTIFIER_BYTES
from resolver.chain.scopes import Speaker
from resolver.errors import Fault
from resolver.handle import canonical, check_segments, fold, split
from resolver.routes import RouteTable, Verdict

_CONTROLS: Final = bytes((*range(0x20), 0x7F))
_SEPARATOR: Final = b"\n"
"""A control character, so it stands in no identifier."""


class Keys:
    """Canonical keys of a batch, each in the place of its identifier.

    `settled` are the places whose answer needs no asking: identifiers that break a rule and scopes that refuse; what
    stands in `keys` there means nothing. Whoever holds other answers settles them too.
    """

    __slots__ = ("keys", "settled")

    def __init__(self, keys: list[bytes], settled: dict[int, Ready]) -> None:
        self.keys = keys
        self.settled = settled

    @property
    def has_all(self) -> bool:
        """Is there a key in every place?"""
        return not self.settled

    def wanted(self) -> list[bytes]:
        """Give the keys of the places that are not settled, each once."""
        if not self.settled:
            return self.keys if len(self.keys) == 1 else list(dict.fromkeys(self.keys))
        return list(dict.fromkeys(key for place, key in enumerate(self.keys) if place not in self.settled))

    def answers(self, wanted: Sequence[bytes], given: Sequence[Ready]) -> Sequence[Ready]:
        """Give an answer for each place, out of what is settled and of what was given for the wanted keys."""
        settled, keys = self.settled, self.keys
        if not settled and len(wanted) == len(keys):
            return given
        by_key = dict(zip(wanted, given, strict=True))
        return [settled[place] if place in settled else by_key[key] for place, key in enumerate(keys)]


class KeyMaker:
    """Makes keys for whole batches."""

    def __init__(self, routes: RouteTable, speaker: Speaker) -> None:
        self._routes = routes
        self._speaker = speaker

    def keys(self, identifiers: Sequence[bytes]) -> Keys:
        """Check identifiers and give their keys."""
        # What can be done for all at once is done for all at once: a call for each costs ten times as much.
        joined = _SEPARATOR.join(identifiers)
        if _is_plain(joined, identifiers):
            made = Keys(fold(joined).split(_SEPARATOR), {})
            unsure: Iterable[int] = self._spell(made.keys, identifiers)
        else:
            made = Keys(list(identifiers), {})
            unsure = range(len(identifiers))
        for place in unsure:
            self._settle(place, identifiers[place], made)
        return made

    def _spell(self, folded: list[bytes], identifiers: Sequence[bytes]) -> list[int]:
        """Turn folded identifiers into keys where their prefix answers; give the places of all others."""
        unsure = []
        rules: dict[bytes, bool | None] = {}
        for place, key in enumerate(folded):
            prefix, _, suffix = key.partition(b"/")
            is_sensitive = rules.get(prefix)
            if is_sensitive is None:
                is_sensitive = rules[prefix] = self._is_sensitive(prefix)
            if is_sensitive is None or not suffix:
                unsure.append(place)
            elif is_sensitive:
                folded[place] = prefix + identifiers[place][len(prefix) :]
        return unsure

    def _is_sensitive(self, prefix: bytes) -> bool | None:
        """Tell the case rule below a folded prefix; None where it is faulty or refuses."""
        try:
            check_segments(prefix, field="identifier")
        except Fault:
            return None
        scope = self._routes.scope(prefix)
        return scope.case_sensitive if scope.verdict is Verdict.ANSWER else None

    def _settle(self, place: int, identifier: bytes, made: Keys) -> None:
        try:
            prefix, _ = split(identifier)
        except Fault as fault:
            # Without the traceback, whose frames hold what will hold the fault.
            made.settled[place] = Failed(fault=fault.with_traceback(None))
            return
        scope = self._routes.scope(fold(prefix))
        if scope.verdict is Verdict.ANSWER:
            made.keys[place] = canonical(identifier, prefix_length=len(prefix), case_sensitive=scope.case_sensitive)
        else:
            made.settled[place] = self._speaker.refusal(scope)


def _is_plain(joined: bytes, identifiers: Sequence[bytes]) -> bool:
    """Is all of it ASCII without control characters, and no identifier too long?"""
    if not joined.isascii() or len(joined) - len(joined.translate(None, _CONTROLS)) != len(identifiers) - 1:
        return False
    return len(joined) <= IDENTIFIER_BYTES or max(map(len, identifiers)) <= IDENTIFIER_BYTES
