"""A ring that lets in only who proves who he is: TLS both ways, and a role with a password."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra import Unauthorized
from cassandra.cluster import NoHostAvailable
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.connecting import connect
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.settings import CassandraSettings, CassandraTls
from resolver.store.cassandra.writer import CassandraWriter
from tests.certificates import Authority
from tests.running_node import wait_until
from tests.services.rings import own_ring
from tests.small_store import put
from tests.stores import write
from tests.topnode import topnode

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(300)]

SERVER = "cassandra.example"
ROLE = (
    "CREATE ROLE topnode WITH LOGIN = true AND PASSWORD = 'correct horse'",
    "CREATE KEYSPACE topnode WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}",
    *(f"GRANT {right} ON KEYSPACE topnode TO topnode" for right in ("SELECT", "MODIFY", "CREATE", "ALTER")),
)
"""What a ring's own operators do once: topnode may do what it needs in its keyspace, and nothing beside it."""

CONFIG = """\
[cassandra]
hosts = ['{settings.hosts[0]}']
port = {settings.port}
replicas = 1
user = 'topnode'
password_file = '{settings.password_file}'
[cassandra.tls]
server_ca = '{settings.tls.server_ca}'
certificate = '{settings.tls.certificate}'
key = '{settings.tls.key}'
server_name = '{settings.tls.server_name}'
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraSettings]:
    """What somebody who may come in says: the way to a ring of one node that has a role for topnode."""
    folder = tmp_path_factory.mktemp("secured")
    authority, clients = Authority(folder), Authority(folder, "clients")
    server, client = authority.issue(SERVER, alternatives=(SERVER,)), clients.issue("topnode")
    both = folder / "server.both"
    both.write_text(Path(server.key).read_text() + Path(server.certificate).read_text())
    factory = "{class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}"
    files = f"keystore: {both}, truststore: {clients.path}, ssl_context_factory: {factory}"
    lines = (
        "authenticator: PasswordAuthenticator",
        "authorizer: CassandraAuthorizer",
        f"client_encryption_options: {{enabled: true, require_client_auth: true, {files}}}",
    )
    password, first = folder / "password", folder / "first"
    password.write_text("correct horse\n")
    first.write_text("cassandra")
    with own_ring(folder / "ring", settings=lines) as ring:
        made = CassandraSettings(
            hosts=ring.hosts,
            port=ring.port,
            replicas=1,
            user="topnode",
            password_file=str(password),
            tls=CassandraTls(
                server_ca=authority.path, certificate=client.certificate, key=client.key, server_name=SERVER
            ),
        )
        operators = replace(made, user="cassandra", password_file=str(first))
        # The role that they begin with is made by a node that serves already.
        wait_until(lambda: _lets_in(operators), 60)
        cluster, session = connect(operators)
        for statement in ROLE:
            session.execute(statement)
        cluster.shutdown()
        yield made


def _lets_in(settings: CassandraSettings) -> bool:
    try:
        cluster, _ = connect(settings)
    except NoHostAvailable:
        return False
    cluster.shutdown()
    return True


async def refusal(settings: CassandraSettings) -> Fault:
    with pytest.raises(Fault) as caught:
        await migrate(settings, clock=SystemClock(), registry=CollectorRegistry())
    return caught.value


async def test_whoever_proves_who_he_is_migrates_and_writes(settings: CassandraSettings, tmp_path: Path) -> None:
    """By the settings of a node, as its operators write them."""
    config = tmp_path / "node.toml"
    config.write_text(CONFIG.format(settings=settings))
    migrated = topnode("store", "migrate", "--config", config)
    assert migrated.returncode == 0, migrated.stderr
    clock = SystemClock()
    writer = await CassandraWriter.open(settings, owner="test", clock=clock, registry=CollectorRegistry())
    try:
        await put(writer, [write("88.1/A")])
        fetched = await writer.public([b"88.1/A"])
        assert fetched.bodies[0] is not None
    finally:
        await writer.close()
    cluster, session = connect(settings)
    for statement in ("DROP ROLE cassandra", "DROP KEYSPACE topnode"):
        with pytest.raises(Unauthorized):
            session.execute(statement)
    cluster.shutdown()


async def test_a_wrong_password_is_the_operators_and_names_the_field(
    settings: CassandraSettings, tmp_path: Path
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    fault = await refusal(replace(settings, password_file=str(wrong)))
    assert (fault.reason, fault.field) == (Reason.SETTING_INVALID, "user")
    assert "wrong" not in fault.detail


async def test_no_login_is_refused_in_the_same_words(settings: CassandraSettings) -> None:
    fault = await refusal(replace(settings, user="", password_file=""))
    assert (fault.reason, fault.field) == (Reason.SETTING_INVALID, "user")


async def test_a_server_that_is_not_vouched_for_is_not_spoken_to(settings: CassandraSettings, tmp_path: Path) -> None:
    """Nor one with another name, and none in the clear."""
    assert settings.tls
    stranger = replace(settings.tls, server_ca=Authority(tmp_path, "stranger").path)
    for tls in (stranger, replace(settings.tls, server_name="another.example"), None):
        fault = await refusal(replace(settings, tls=tls))
        assert fault.reason is Reason.STORE_UNAVAILABLE, tls
        assert fault.retry_after


async def test_a_client_without_a_certificate_is_not_let_in(settings: CassandraSettings) -> None:
    assert settings.tls
    fault = await refusal(replace(settings, tls=replace(settings.tls, certificate="", key="")))
    assert fault.reason is Reason.STORE_UNAVAILABLE
