"""Request ids of what is pushed: the same request after a crash has the same one."""

from hashlib import sha256


def request_id(life: str, place: str, body: bytes = b"") -> str:
    """Name a request by whose it is (`Watermark.life`), its place in the outbox, and, where that is given, its body.

    What a store holds now may have changed since the same place was pushed before, and the node above must not
    answer as it did to the first: it refuses other content under a name that was taken. With the body in it, other
    content has another name.
    """
    return f"up-{sha256(b'%b %b ' % (life.encode(), place.encode()) + body).hexdigest()[:48]}"
