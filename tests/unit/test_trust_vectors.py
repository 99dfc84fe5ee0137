"""What this implementation makes of the vectors in tests/vectors, which other languages read too."""

import json
import subprocess
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from registry.chunks import NO_CHUNKS, Chunk, ChunkWriter, manifest_with
from registry.ndjson_rows import decode_row
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.trust.envelopes import Envelope, kind_of, pae, payload_type_of, seal
from resolver.trust.heads import Payload
from resolver.trust.keys import PrivateKey, PublicKey
from resolver.trust.merkle import Tree, leaf_hash, root_from_proof
from resolver.trust.notes import TreeHead, open_checkpoint, read_verifier_key, sign_checkpoint, verifier_key
from resolver.trust.receipts import Receipt, check_envelope, check_receipt
from tests.unit.test_registering_specification import BODIES

VECTORS: Final = Path(__file__).parents[1] / "vectors"

Vector = dict[str, Any]


def read(name: str) -> Vector:
    held: Vector = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return held


KEYS, ENVELOPES, PAYLOADS = read("keys"), read("envelopes"), read("payloads")
TREES, CHECKPOINTS, RECEIPTS = read("trees"), read("checkpoints"), read("receipts")
CHUNKS: Final = read("chunks")["chunks"]
PRIVATE: Final = {each["name"]: PrivateKey.from_pem(each["private_pem"].encode()) for each in KEYS["keys"]}


def cases(vectors: list[Vector]) -> list[Any]:
    """Name each case by what it is about."""
    return [pytest.param(each, id=each.get("name") or each.get("why")) for each in vectors]


def from_secret(algorithm: str, secret: bytes) -> PrivateKey:
    if algorithm == "ed25519":
        return PrivateKey(Ed25519PrivateKey.from_private_bytes(secret))
    if algorithm == "ecdsa-p256":
        return PrivateKey(derive_private_key(int.from_bytes(secret, "big"), SECP256R1()))
    return PrivateKey(MLDSA65PrivateKey.from_seed_bytes(secret))


@pytest.mark.parametrize("vector", cases(KEYS["keys"]))
def test_keys(vector: Vector) -> None:
    """A key has one encoding and one name, in all the forms in which it is written down."""
    public = PublicKey.from_spki(bytes.fromhex(vector["spki"]))
    assert public == PRIVATE[vector["name"]].public
    assert public.algorithm.value == vector["algorithm"]
    assert public.key_id == vector["key_id"] == sha256(public.spki).hexdigest()
    assert public.to_pem() == vector["public_pem"]
    assert PRIVATE[vector["name"]].to_pem().decode() == vector["private_pem"]
    assert from_secret(vector["algorithm"], bytes.fromhex(vector["secret"])).public == public


@pytest.mark.parametrize("vector", cases(KEYS["refused"]))
def test_refused_keys(vector: Vector) -> None:
    """Other algorithms, second encodings and keys for which anybody can sign are no keys."""
    with pytest.raises(Fault) as caught:
        PublicKey.from_spki(bytes.fromhex(vector["spki"]))
    assert caught.value.reason is Reason.KEY_INVALID


@pytest.mark.parametrize("vector", cases(ENVELOPES["accepted"]))
def test_envelopes(vector: Vector) -> None:
    """An envelope comes apart into what was signed, and together again into the same bytes."""
    octets = bytes.fromhex(vector["envelope"])
    assert sha256(octets).hexdigest() == vector["envelope_sha256"]
    envelope = Envelope.from_bytes(octets)
    assert envelope.to_bytes() == octets
    assert pb.SubmitRequest.FromString(octets).SerializeToString() == octets
    assert (envelope.payload_type, envelope.payload) == (vector["payload_type"], vector["payload"].encode())
    assert envelope.pae() == bytes.fromhex(vector["pae"]) == pae(vector["payload_type"], envelope.payload)
    for held, told in zip(envelope.signatures, vector["signatures"], strict=True):
        assert (held.key_id, held.sig.hex()) == (told["keyid"], told["sig"])
        assert PRIVATE[told["key"]].public.key_id == held.key_id
        assert PRIVATE[told["key"]].public.verify(held.sig, envelope.pae())
    body = Payload.from_bytes(envelope.payload).body
    assert body == vector["body"].encode()
    msgspec.json.decode(body, type=BODIES[vector["kind"]])


@pytest.mark.parametrize("vector", cases(ENVELOPES["accepted"]))
def test_ed25519_envelopes_are_made_again(vector: Vector) -> None:
    """Sealing is deterministic with Ed25519 keys; the others give as many different envelopes as are asked for."""
    names = [each["key"] for each in vector["signatures"]]
    keys = [PRIVATE[name] for name in names]
    made = [seal(vector["payload_type"], vector["payload"].encode(), keys).to_bytes() for _ in range(2)]
    is_deterministic = all(name.startswith("ed25519") for name in names)
    assert (made[0] == made[1]) is is_deterministic
    assert (made[0] == bytes.fromhex(vector["envelope"])) is is_deterministic


@pytest.mark.parametrize("vector", cases(ENVELOPES["refused"]))
def test_refused_envelopes(vector: Vector) -> None:
    """Truncated, re-ordered, repeated, unknown: there is no second encoding."""
    with pytest.raises(Fault) as caught:
        Envelope.from_bytes(bytes.fromhex(vector["envelope"]))
    assert caught.value.reason is Reason.ENVELOPE_MALFORMED


@pytest.mark.parametrize("vector", cases(ENVELOPES["signatures"]))
def test_signatures(vector: Vector) -> None:
    public = PRIVATE[vector["key"]].public
    held = public.verify(bytes.fromhex(vector["sig"]), bytes.fromhex(vector["message"]))
    assert held is vector["holds"]


def test_payload_types() -> None:
    types = ENVELOPES["payload_types"]
    for each in types["accepted"]:
        assert kind_of(each["payload_type"]) == each["kind"]
        assert payload_type_of(each["kind"]) == each["payload_type"]
    for payload_type in types["refused"]:
        with pytest.raises(Fault) as caught:
            kind_of(payload_type)
        assert caught.value.reason is Reason.PAYLOAD_TYPE_UNKNOWN


@pytest.mark.parametrize("vector", cases(PAYLOADS["refused"]))
def test_refused_payloads(vector: Vector) -> None:
    with pytest.raises(Fault) as caught:
        Payload.from_bytes(vector["payload"].encode())
    assert (caught.value.reason, caught.value.field) == (Reason.PAYLOAD_MALFORMED, vector["field"])


def tree_of(size: int) -> tuple[Tree, dict[bytes, bytes]]:
    growth = Tree().grown([leaf_hash(b"%d" % number) for number in range(size)])
    return growth.tree, dict(growth.tiles)


def test_trees() -> None:
    for vector in TREES["roots"]:
        assert tree_of(vector["size"])[0].root.hex() == vector["root"]


async def test_proofs() -> None:
    trees = {each["size"]: tree_of(each["size"]) for each in TREES["proofs"]}
    for vector in TREES["proofs"]:
        tree, tiles = trees[vector["size"]]

        async def read_tile(name: bytes, tiles: dict[bytes, bytes] = tiles) -> bytes | None:
            return tiles.get(name)

        proof = [bytes.fromhex(each) for each in vector["proof"]]
        assert await tree.proof(vector["leaf_number"], read_tile) == proof
        root = root_from_proof(vector["leaf_number"], vector["size"], bytes.fromhex(vector["leaf"]), proof)
        assert root.hex() == vector["root"] == tree.root.hex()


def test_tiles() -> None:
    _, tiles = tree_of(TREES["tiles"]["size"])
    for vector in TREES["tiles"]["tiles"]:
        assert sha256(tiles[vector["name"].encode()]).hexdigest() == vector["sha256"]


def test_the_checkpoint_is_made_again() -> None:
    key, origin = PRIVATE[CHECKPOINTS["key"]], CHECKPOINTS["origin"]
    note = sign_checkpoint(origin, CHECKPOINTS["size"], bytes.fromhex(CHECKPOINTS["root"]), key)
    assert note.decode() == CHECKPOINTS["accepted"][0]["note"]
    assert verifier_key(origin, key.public) == CHECKPOINTS["verifier_key"]
    assert read_verifier_key(CHECKPOINTS["verifier_key"]) == (origin, key.public)


@pytest.mark.parametrize("vector", cases(CHECKPOINTS["accepted"]))
def test_checkpoints(vector: Vector) -> None:
    head = TreeHead(CHECKPOINTS["origin"], CHECKPOINTS["size"], bytes.fromhex(CHECKPOINTS["root"]))
    assert open_checkpoint(vector["note"].encode(), CHECKPOINTS["verifier_key"]) == head


@pytest.mark.parametrize("vector", cases(CHECKPOINTS["refused"]))
def test_refused_checkpoints(vector: Vector) -> None:
    with pytest.raises(Fault) as caught:
        open_checkpoint(vector["note"].encode(), CHECKPOINTS["verifier_key"])
    assert (caught.value.reason, caught.value.field) == (Reason.RECEIPT_INVALID, "checkpoint")


@pytest.mark.parametrize("vector", cases(CHECKPOINTS["verifier_keys_refused"]))
def test_refused_verifier_keys(vector: Vector) -> None:
    with pytest.raises(Fault) as caught:
        read_verifier_key(vector["verifier_key"])
    assert caught.value.reason is Reason.KEY_INVALID


def receipt_of(vector: Vector) -> Receipt:
    return Receipt(
        index=vector["index"],
        statement=bytes.fromhex(vector["statement"]),
        leaf_hash=bytes.fromhex(vector["leaf_hash"]),
        checkpoint=vector["checkpoint"].encode(),
        proof=[bytes.fromhex(each) for each in vector["inclusion_proof"]],
    )


def test_the_receipt_proves_the_envelope() -> None:
    receipt, envelope = receipt_of(RECEIPTS["receipt"]), bytes.fromhex(RECEIPTS["envelope"])
    head = check_receipt(receipt, RECEIPTS["verifier_key"])
    assert (head.origin, head.size) == (CHECKPOINTS["origin"], CHECKPOINTS["size"])
    statement = pb.Statement.FromString(receipt.statement)
    check_envelope(envelope, statement.envelope_sha256)
    assert statement.key_ids == [bytes.fromhex(Envelope.from_bytes(envelope).signatures[0].key_id)]
    with pytest.raises(Fault) as caught:
        check_envelope(envelope + b"\x00", statement.envelope_sha256)
    assert (caught.value.reason, caught.value.field) == (Reason.RECEIPT_INVALID, "statement.envelope_sha256")


@pytest.mark.parametrize("vector", cases(RECEIPTS["refused"]))
def test_refused_receipts(vector: Vector) -> None:
    with pytest.raises(Fault) as caught:
        check_receipt(receipt_of(vector["receipt"]), RECEIPTS["verifier_key"])
    assert (caught.value.reason, caught.value.field) == (Reason.RECEIPT_INVALID, vector["field"])


@pytest.mark.parametrize("vector", [pytest.param(each, id=str(each["number"])) for each in CHUNKS])
def test_chunks(vector: Vector) -> None:
    """A chunk holds these rows. How it is compressed is free, so it is the content that is made again."""
    octets, rows = (
        bytes.fromhex(vector["chunk"]),
        [decode_row(json.dumps(each["row"]).encode()) for each in vector["rows"]],
    )
    lines = [each["line"] for each in vector["rows"]]
    opened = Chunk.open(octets, digest=vector["chunk_sha256"], size=len(octets), rows=len(rows))
    blocks = list(opened.blocks())
    assert [row for block in blocks for row in (*block.prefixes, *block.identifiers)] == rows
    assert [line for block in blocks for line in block.lines] == lines
    writer = ChunkWriter()
    for line, row in zip(lines, rows, strict=True):
        writer.add(line, row)
    made = [zstandard.ZstdDecompressor().decompress(each) for each in (octets, writer.finish())]
    assert made == [bytes.fromhex(vector["content"])] * 2


def test_the_manifest_of_an_import() -> None:
    manifest = NO_CHUNKS
    for vector in CHUNKS:
        manifest = manifest_with(manifest, bytes.fromhex(vector["chunk_sha256"]))
        assert manifest.hex() == vector["manifest_sha256"]


def openssl(*arguments: str | Path) -> int:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=False, timeout=60).returncode


@pytest.mark.needs("openssl")
def test_nothing_of_ours_is_needed_to_check_an_envelope_and_its_receipt(tmp_path: Path) -> None:
    """By openssl: an Ed25519 signature, a P-256 signature, and the signature of the journal."""
    ed25519, p256 = ENVELOPES["accepted"][:2]
    message, sig, key = tmp_path / "message", tmp_path / "sig", tmp_path / "key"
    public = {each["name"]: each["public_pem"] for each in KEYS["keys"]}
    for vector, check in (
        (ed25519, ("pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", message, "-sigfile", sig)),
        (p256, ("dgst", "-sha256", "-verify", key, "-signature", sig, message)),
    ):
        kind, payload = vector["payload_type"].encode(), vector["payload"].encode()
        key.write_text(public[vector["signatures"][0]["key"]])
        sig.write_bytes(bytes.fromhex(vector["signatures"][0]["sig"]))
        message.write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
        assert openssl(*check) == 0
        message.write_bytes(message.read_bytes() + b" ")
        assert openssl(*check) != 0
    note, _, signed = RECEIPTS["receipt"]["checkpoint"].partition("\n\n")
    key.write_text(public[CHECKPOINTS["key"]])
    message.write_text(f"{note}\n")
    sig.write_bytes(b64decode(signed.split()[-1])[4:])
    assert openssl("pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", message, "-sigfile", sig) == 0
