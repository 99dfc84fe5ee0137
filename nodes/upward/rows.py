"""What a store holds, as rows of a request to the node above. Pure."""

from registry.identifiers import Row
from registry.rows import ReferenceRow, ValueRow
from resolver.record import Absolute, Value
from resolver.wire import decode_record


def row_of(body: bytes) -> Row:
    """Make the row that brings the node above to what this public body says, whatever it holds."""
    record = decode_record(body)
    identifier = record.identifier.to_text()
    if record.tombstone:
        return Row(identifier=identifier, op="delete", reason=record.tombstone.reason)
    values = [value_row(value) for value in record.values]
    return Row(identifier=identifier, values=values, overwrite=True, registrant=record.registrant)


def value_row(value: Value) -> ValueRow:
    """Write a value so that it is read as the same."""
    said: dict[str, object] = {}
    if isinstance(value.lifetime, Absolute):
        said["expires_at"] = value.lifetime.expires_at
    else:
        said["ttl"] = value.lifetime.seconds
    try:
        said["data"] = value.data.decode()
    except UnicodeDecodeError:
        said["data_base64"] = value.data
    return ValueRow(
        index=value.index,
        type=value.type,
        timestamp=value.timestamp,
        permissions=f"{value.permissions:04b}",
        references=[ReferenceRow(handle=each.handle, index=each.index) for each in value.references],
        **said,  # type: ignore[arg-type] # each has the type of its field
    )
