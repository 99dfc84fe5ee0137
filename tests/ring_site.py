"""A top-level node on a ring, as its operators set it up: keys, settings, an operator, and a node that has joined."""

import time
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

from resolver.trust.keys import PrivateKey
from resolver.trust.notes import origin_of, verifier_key
from tests.running_node import RunningNode
from tests.services.rings import RunningRing
from tests.signing import Signing, registering

NODE: Final = "88.111"


class Site:
    """What all machines of the node share: the ring, the journal's key, and an operator."""

    def __init__(self, folder: Path, ring: RunningRing, keyspace: str, *, replicas: int = 1, redis: str = "") -> None:
        self.folder = folder
        journal = PrivateKey.generate()
        journal.to_file(folder / "journal.pem")
        self.verifier_key = verifier_key(origin_of("top"), journal.public)
        self.anna = Signing("anna", PrivateKey.generate(), now=time.time())
        (folder / "anna.pem").write_text(self.anna.key.public.to_pem())
        self.config = folder / "node.toml"
        self.config.write_text(
            f"[registry]\nkey = '{folder}/journal.pem'\n"
            f"[[registry.operators]]\nname = 'anna'\nkey = '{folder}/anna.pem'\n"
            f"[cassandra]\nhosts = {list(ring.hosts)}\nport = {ring.port}\n"
            f"keyspace = '{keyspace}'\nreplicas = {replicas}\n"
            f"datacenter = '{ring.data_centre}'\n" + (f"[redis]\naddress = '{redis}'\n" if redis else "")
        )

    def options(self) -> tuple[str, str]:
        return "--config", str(self.config)


class Member:
    """The node 88.111, whose requests go to whichever machine is asked."""

    def __init__(self, site: Site, writer: RunningNode) -> None:
        self.key = PrivateKey.generate()
        self.signing = Signing(NODE, self.key, now=time.time())
        spki = b64encode(self.key.public.spki).decode()
        body = {"node": NODE, "tier": "secondary", "organisation": "A works", "key": spki}
        writer.submit(self.signing.request("node-apply.v1", body))
        writer.submit(site.anna.request("node-review.v1", {"node": NODE, "decision": "enable"}))
        writer.submit(site.anna.request("prefix-allocate.v1", {"rows": [{"prefix": NODE, "holder": NODE}]}))

    def signed(self, *identifiers: str) -> bytes:
        """Sign a registration of these, now."""
        return self.request(registering(*identifiers))

    def request(self, body: dict[str, Any]) -> bytes:
        """Sign what is to be done with identifiers, now."""
        self.signing.now = time.time()
        return self.signing.request("identifiers.v1", body)
