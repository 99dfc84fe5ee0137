"""Request ids of what is pushed: the same request after a crash has the same one, and no other request has it."""

from hashlib import sha256


def request_id(life: str, place: str, body: bytes) -> str:
    """Name a request by whose it is (`Watermark.life`), its place in the outbox, and what it says.

    What a store holds now may have changed since the same place was pushed before. Then it is another request, and
    the node above must not answer as it did to the first.
    """
    return f"up-{sha256(b'%b %b ' % (life.encode(), place.encode()) + body).hexdigest()[:48]}"
