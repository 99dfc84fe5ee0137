"""What can be set about the registry."""

from pathlib import Path

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.rpc.tls import ServerTls
from resolver.trust.operators import OperatorSettings
from resolver.units import Duration, Size


class RegistrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where signed requests are taken, from whom, and how many at once."""

    address: str = "127.0.0.1:3643"
    """Host and port for signed requests; port 0: any free one."""

    tls: ServerTls | None = None
    """Certificate files; without them connections are not encrypted. Who signs is proven by the signature."""

    operators: tuple[OperatorSettings, ...] = ()
    """Operators of this node: a name and the file of a public key (PEM) each. Besides them there is `local`,
    whose private key is made with the store: operator.pem in the data folder."""

    key: Path | None = None
    """The private key (PEM, Ed25519) that signs the journal's head; not set: journal.pem in the data folder, made at
    the first start."""

    waiting: int = 4_096
    """Requests that wait to be written, at most; more are refused with a time after which to retry."""

    waiting_size: Size = Size(64 << 20)
    """The bytes of such requests, at most. One is always let in."""

    import_time: Duration = Duration(60)
    """The chunk of an import may take this long to arrive."""

    def __post_init__(self) -> None:
        if not 0 < self.waiting <= 1_000_000:
            raise Fault(Reason.SETTING_INVALID, "Waiting requests are 1 to 1,000,000.", field="waiting")
        if self.waiting_size <= 0:
            raise Fault(Reason.SETTING_INVALID, "Waiting requests have more than 0 bytes.", field="waiting_size")
        if self.import_time <= 0:
            raise Fault(Reason.SETTING_INVALID, "A chunk takes more than 0 seconds.", field="import_time")
