"""Reading settings: several sources, one over the other, and a note of where each value came from.

Which settings there are is no business of this module: it is given a Struct of Structs. A key is the path to a field
in it, with dots: `memory.size`.
"""

import ast
import difflib
import inspect
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from types import UnionType
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from resolver.errors import Fault, Reason
from resolver.units import Duration, Size

Kind = TypeVar("Kind", bound=Struct)

ENVIRONMENT_PREFIX: Final = "TOPNODE_"
"""`memory.size` is TOPNODE_MEMORY__SIZE in the environment."""


class Source(Struct, frozen=True):
    """Values by key, and the name of where they stand. `is_text`: numbers, lists and the like are still words."""

    name: str
    values: Mapping[str, Any]
    is_text: bool = False


class Settled(Struct, Generic[Kind], frozen=True):
    """The settings that hold, and for each key the name of the source that had the last word."""

    settings: Kind
    origins: Mapping[str, str]


def settle(kind: type[Kind], sources: Sequence[Source]) -> Settled[Kind]:
    """Lay the sources over the defaults, the last one on top. Their keys are known ones.

    Raises:
        Fault: SETTING_INVALID, with the key as field, naming the source.
    """
    known = keys(kind)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    for source in sources:
        for key, raw in source.values.items():
            values[key] = _convert(key, raw, known[key], source)
            origins[key] = source.name
    return Settled(_build(kind, values, ""), origins)


def from_toml(kind: type[Struct], path: Path) -> Source:
    """Read a TOML file.

    Raises:
        Fault: FILE_UNREADABLE, SETTING_INVALID (no TOML), SETTING_UNKNOWN.
    """
    name = f"file {path}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(Reason.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}.", field="--config") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise Fault(Reason.SETTING_INVALID, f"{path} is not TOML: {error}.", field="--config") from None
    return Source(name, dict(_flatten(kind, tables, name, keys(kind), "")))


def from_environment(kind: type[Struct], environment: Mapping[str, str]) -> Source:
    """Take every variable that begins with TOPNODE_; two underscores stand for the dot.

    Raises:
        Fault: SETTING_UNKNOWN.
    """
    known = keys(kind)
    values = {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            if key not in known:
                raise _unknown(key, f"the environment variable {variable}", known)
            values[key] = text
    return Source("environment", values, is_text=True)


def from_options(options: Mapping[str, object | None]) -> Source:
    """Take the options of the command line that were given; keys are those of the settings."""
    return Source("option", {key: value for key, value in options.items() if value is not None}, is_text=True)


def keys(kind: type[Struct], prefix: str = "") -> dict[str, FieldInfo]:
    """Give every key and its field, in the order of the classes."""
    found: dict[str, FieldInfo] = {}
    for field in fields(kind):
        section = _section(field)
        if section:
            found |= keys(section, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field
    return found


def values_of(settings: Struct, prefix: str = "") -> dict[str, Any]:
    """Give every key and the value that holds; a section that may be left out, and is, has None everywhere."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        section = _section(field)
        if section and value is None:
            found |= dict.fromkeys(keys(section, f"{prefix}{field.name}."))
        elif section:
            found |= values_of(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def descriptions(kind: type[Struct], prefix: str = "") -> dict[str, str]:
    """Give every key and the docstring that stands under its field."""
    own = _docstrings(kind)
    found: dict[str, str] = {}
    for field in fields(kind):
        section = _section(field)
        if section:
            found |= descriptions(section, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = own.get(field.name, "")
    return found


def encode(settings: Struct) -> bytes:
    """Write settings as JSON, for another interpreter."""
    return msgspec.json.encode(settings, enc_hook=to_text)


def decode(octets: bytes, kind: type[Kind]) -> Kind:
    """Read what `encode` wrote."""
    return msgspec.json.decode(octets, type=kind, dec_hook=_from_text)


def to_text(value: object) -> str:
    """Write a value that has a unit, or is a path, as a file of settings would."""
    return value.to_text() if isinstance(value, Duration | Size) else str(value)


def _from_text(kind: type, value: object) -> object:
    # An option may have been read already.
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        expected = {Duration: "a duration such as 250ms", Size: "a size such as 256MiB"}.get(kind, "a path")
        raise ValueError(f"Expected {expected}, in quotes")  # noqa: TRY004 - what msgspec takes for a wrong value
    return kind.from_text(value) if issubclass(kind, Duration | Size) else Path(value)


def _convert(key: str, raw: object, field: FieldInfo, source: Source) -> Any:
    if source.is_text and isinstance(raw, str) and _is_list(field):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    try:
        return msgspec.convert(raw, field.type, strict=not source.is_text, dec_hook=_from_text)
    except Fault as fault:
        detail = fault.detail
    except msgspec.ValidationError as error:
        detail = str(error).partition(" - at ")[0] + "."
    raise Fault(Reason.SETTING_INVALID, f"{key} = {raw!r} ({source.name}): {detail}", field=key)


def _build(kind: type[Kind], values: Mapping[str, Any], prefix: str) -> Kind:
    arguments: dict[str, Any] = {}
    for field in fields(kind):
        key = prefix + field.name
        section = _section(field)
        if section is not None:
            if section is field.type or any(each.startswith(key + ".") for each in values):
                arguments[field.name] = _build(section, values, key + ".")
        elif key in values:
            arguments[field.name] = values[key]
        elif field.required:
            raise Fault(Reason.SETTING_INVALID, f"{key} is not set, and has no default.", field=key)
    try:
        return kind(**arguments)
    except Fault as fault:  # what a section says about its fields together
        key = prefix + fault.field
        raise Fault(fault.reason, f"{key}: {fault.detail}", field=key, variables=fault.variables) from None


def _flatten(
    kind: type[Struct], table: Mapping[str, Any], source: str, known: Mapping[str, FieldInfo], prefix: str
) -> Iterator[tuple[str, Any]]:
    by_name = {field.name: field for field in fields(kind)}
    for name, value in table.items():
        key = prefix + name
        field = by_name.get(name)
        if field is None:
            raise _unknown(key, source, known)
        section = _section(field)
        if section is None:
            yield key, value
        elif isinstance(value, dict):
            yield from _flatten(section, value, source, known, key + ".")
        else:
            raise Fault(Reason.SETTING_INVALID, f"{key} ({source}) is a table: write [{key}].", field=key)


def _unknown(key: str, source: str, known: Mapping[str, FieldInfo]) -> Fault:
    sections = {each.rpartition(".")[0] for each in known} - {""}
    near = difflib.get_close_matches(key, [*known, *sections], n=1) or _same_name(key, known)
    hint = f" Did you mean {near[0]}?" if near else ""
    return Fault(
        Reason.SETTING_UNKNOWN,
        f"{key} ({source}) is not a setting.{hint}",
        field=key,
        variables={"source": source, "nearest": near[0] if near else ""},
    )


def _same_name(key: str, known: Mapping[str, FieldInfo]) -> list[str]:
    """Find the right name in the wrong section."""
    name = key.rpartition(".")[2]
    return [each for each in known if each.rpartition(".")[2] == name]


def _section(field: FieldInfo) -> type[Struct] | None:
    """Give the Struct that a field holds, or may hold beside None; None for a field with a plain value."""
    for kind in get_args(field.type) if isinstance(field.type, UnionType) else (field.type,):
        if isinstance(kind, type) and issubclass(kind, Struct):
            return kind
    return None


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.type) in (tuple, list, frozenset)


def _docstrings(kind: type[Struct]) -> dict[str, str]:
    """Read the docstrings under the fields; Python itself does not keep them."""
    body = ast.parse(dedent(inspect.getsource(kind))).body[0]
    found: dict[str, str] = {}
    name = ""
    for node in getattr(body, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = inspect.cleandoc(str(node.value.value))
            name = ""
    return found
