"""The operators of this node: who they are stands in its settings, with the files of their public keys."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.trust.actors import check_node
from resolver.trust.keys import PublicKey

LOCAL: Final = "local"
"""The operator whose key was made with the store: whoever may read the data folder."""


class OperatorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator."""

    name: str
    """What the operator is called in requests and in the journal. No node can have this identifier."""

    key: Path
    """PEM file of the operator's public key."""


class Operators:
    """Who may sign as an operator, by the names of their keys. An operator may have several keys."""

    def __init__(self, keys: Iterable[tuple[str, PublicKey]] = ()) -> None:
        self._names: dict[str, str] = {}
        self._keys: dict[str, PublicKey] = {}
        for name, key in keys:
            if self._names.setdefault(key.key_id, name) != name:
                raise Fault(Reason.SETTING_INVALID, f"Two operators have the same key: {name} is one of them.")
            self._keys[key.key_id] = key

    @classmethod
    def read(cls, settings: Iterable[OperatorSettings], local: PublicKey | None = None) -> Self:
        """Read the keys of operators; `local` is the key that was made with the store.

        Raises:
            Fault: SETTING_INVALID, FILE_UNREADABLE, KEY_INVALID.
        """
        keys = [(LOCAL, local)] if local is not None else []
        for each in settings:
            check_node(each.name, field="registry.operators.name")
            if each.name == LOCAL:
                raise Fault(
                    Reason.SETTING_INVALID,
                    f"The name {LOCAL!r} is that of the key in the data folder.",
                    field="registry.operators.name",
                )
            keys.append((each.name, PublicKey.from_file(each.key)))
        return cls(keys)

    @property
    def names(self) -> frozenset[str]:
        """All names of operators, which no node can have; `local` always is one."""
        return frozenset((LOCAL, *self._names.values()))

    @property
    def keys(self) -> Mapping[str, PublicKey]:
        """The keys by their names."""
        return self._keys

    def name_of(self, key_id: str) -> str | None:
        """Give the operator whose key has this name."""
        return self._names.get(key_id)
