"""The files of deploy/ for several machines, on this one: three tiers that know each other by the authority's word.

Paths, addresses and ports are this test's; everything else is as the files say.
"""

import asyncio
import re
import shutil
import ssl
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import pytest

from deploy import certificates
from nodes.client import Client, ClientSettings, Fault, Options, PrivateKey, RegistryClient, Row, Signer, Value
from nodes.client.registering import RegistryClientSettings
from registry.keyring import OPERATOR_FILE
from registry.rows import PrefixRow
from resolver.answer import Answer, Outcome, Standing
from resolver.query import Mode
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.tls import ClientTls
from resolver.trust.actors import NodeState
from tests.fronts import clients
from tests.habits.tree import ROOT
from tests.running_node import RunningNode, wait_until
from tests.services.ports import free_ports
from tests.topnode import topnode

DEPLOY: Final = ROOT / "deploy"
NAMES: Final = {
    "top": ("resolver.top.example.cn", "registry.top.example.cn"),
    "88.111": ("resolver.88-111.example.cn", "registry.88-111.example.cn"),
    "88.111.1": ("resolver.88-111-1.example.cn",),
}
TIERS: Final = {"top": "top", "88.111": "secondary", "88.111.1": "enterprise"}
ABOVE: Final = {"88.111": "top", "88.111.1": "88.111"}
PART: Final = "88.111.1/SN-1"
THROUGHOUT: Final = Options(mode=Mode.RECURSIVE, authoritative=True)
UNITS: Final = ("topnode.service", "topnode-secondary.service", "topnode-enterprise@.service")

pytestmark = [pytest.mark.timeout(240)]


class Deployed:
    """Three nodes of the example files, each with the files of the authority in a folder like /etc/topnode."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = folder / "ca"
        self.nodes: dict[str, RunningNode] = {}
        ports = free_ports(2 * len(TIERS))
        self._ports = dict(zip(TIERS, zip(ports[::2], ports[1::2], strict=True), strict=True))
        certificates.init(self.ca, "authority of the test")
        for name, known_by in NAMES.items():
            certificates.issue(self.ca, name, dns=known_by)

    def start(self) -> None:
        for name in TIERS:
            self._start(name)

    def clients(self, name: str, ca: Path | None = None) -> AbstractAsyncContextManager[list[Client]]:
        """Reach the fronts of a node by the name that is in its certificate."""
        return clients(self.nodes[name].fronts, ClientSettings(channel=self._channel(NAMES[name][0], ca)))

    def registry(self, name: str) -> RegistryClient:
        """Reach the registry of a node as its operator."""
        node = self.nodes[name]
        signer = Signer("local", PrivateKey.from_file(node.data / OPERATOR_FILE))
        has_tls = node.started.registry_tls
        settings = RegistryClientSettings(channel=self._channel(NAMES[name][-1])) if has_tls else None
        return RegistryClient(node.started.registry, signer, settings)

    async def join(self, name: str) -> None:
        """Do what deploy/secondary.toml says: review and allocate above, allocate here."""
        row = PrefixRow(prefix=name, holder=name)
        async with self.registry(ABOVE[name]) as above, self.registry(name) as here:
            async with asyncio.timeout(30):
                while await _state(above, name) is not NodeState.APPLIED:  # noqa: ASYNC110 - seen as operators do
                    await asyncio.sleep(0.1)
            await above.review(name)
            await above.allocate([row])
            await here.allocate([row])

    def stop(self) -> None:
        for node in reversed(self.nodes.values()):
            node.stop()

    def _channel(self, tls_name: str, ca: Path | None = None) -> ChannelSettings:
        return ChannelSettings(tls=ClientTls(server_ca=str(ca or self.ca / "authority.pem")), tls_name=tls_name)

    def _start(self, name: str) -> None:
        tier, place = TIERS[name], self.folder / name
        (place / "etc").mkdir(parents=True)
        for file in ("authority.pem", f"{name}.pem", f"{name}.key"):
            shutil.copy(self.ca / file, place / "etc" / file)
        config = place / "etc" / "topnode.toml"
        config.write_text(self._placed(name, (DEPLOY / f"{tier}.toml").read_text(), place))
        # The name of the machine is its address here, so that of its certificate is to be said.
        environment = {"TOPNODE_UPWARD__TLS_NAME": NAMES[ABOVE[name]][-1]} if name in ABOVE else {}
        checked = topnode("config", "check", "--tier", tier, "--config", str(config))
        assert checked.returncode == 0, checked.stderr
        serving, registry = self._ports[name]
        options = ["--config", str(config), "--workers", "0"]
        options += ["--listen", f"127.0.0.1:{serving}", "--registry", f"127.0.0.1:{registry}"]
        node = RunningNode(place / "data", place / "log", options, environment, tier=tier)
        self.nodes[name] = node
        node.wait_ready()

    def _placed(self, name: str, text: str, place: Path) -> str:
        """Exchange what belongs to a machine."""
        serving, _ = self._ports[name]
        text = text.replace("/etc/topnode/", f"{place}/etc/")
        text = re.sub(r'^data = ".*"$', f'data = "{place}/data"', text, flags=re.MULTILINE)
        text = re.sub(r"grpc://192\.0\.2\.\d+:\d+", f"grpc://127.0.0.1:{serving}", text)
        if name in ABOVE:
            above = self._ports[ABOVE[name]][1]
            text = re.sub(r'^registry = ".*"$', f'registry = "127.0.0.1:{above}"', text, flags=re.MULTILINE)
        return text


async def _state(client: RegistryClient, name: str) -> NodeState | None:
    try:
        return (await client.node(name)).state
    except Fault:
        return None


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(tmp_path_factory.mktemp("deployed"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


async def test_three_tiers_join_push_and_answer_by_the_authoritys_certificates(deployed: Deployed) -> None:
    """Over TLS: applying and pushing upward, and asking downward by the names in the certificates."""
    assert all(node.started.tls for node in deployed.nodes.values())
    for name in ABOVE:
        await deployed.join(name)
    async with deployed.registry("88.111.1") as registry:
        await registry.register([Row(identifier=PART, values=[Value(index=1, type="NAME", data="制动盘")])])
    async with deployed.clients("top") as fronts:
        for client in fronts:
            copy = await _until_found(client, PART, Options())
            assert copy.standing is Standing.REGISTERED_COPY
            # A copy may be known on the way before the route is; what was answered by it then is kept for a while.
            answer = await _until_found(client, PART, THROUGHOUT, hops=2)
            assert answer.standing is Standing.CACHED
            assert [hop.node for hop in answer.hops] == ["88.111.1", "88.111"]


async def _until_found(client: Client, identifier: str, options: Options, *, hops: int = 0) -> Answer:
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await client.resolve(identifier, options)
            except Fault:
                # The node above has not heard of the route yet.
                answer = None
            if answer is not None and answer.outcome is Outcome.FOUND and len(answer.hops) >= hops:
                return answer
            await asyncio.sleep(0.2)


async def test_the_word_of_another_authority_counts_nothing(deployed: Deployed, tmp_path: Path) -> None:
    certificates.init(tmp_path / "ca", "another")
    async with deployed.clients("top", tmp_path / "ca" / "authority.pem") as fronts:
        for client in fronts:
            with pytest.raises(Fault):
                await client.node_info()


def test_a_certificate_that_is_issued_anew_is_taken_up_without_a_stop(deployed: Deployed) -> None:
    certificates.issue(deployed.ca, "top", dns=NAMES["top"])
    folder = deployed.folder / "top" / "etc"
    for kind in ("key", "pem"):
        shutil.copy(deployed.ca / f"top.{kind}", folder / f"top.{kind}")
    issued = (folder / "top.pem").read_bytes()
    wait_until(lambda: {_served(each) for each in deployed.nodes["top"].fronts} == {issued.decode()}, 20)


def _served(address: str) -> str:
    """Give the certificate that is shown there."""
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


@pytest.mark.parametrize("unit", UNITS)
def test_units_start_what_there_is(unit: str) -> None:
    """Their commands are commands of topnode, and end in the settings' folder."""
    lines = _lines(DEPLOY / unit)
    started = [line.partition("=")[2].split() for line in lines if line.startswith(("ExecStart=", "ExecStartPre="))]
    assert len(started) == 2
    for program, *arguments in started:
        assert program == "/opt/topnode/bin/topnode"
        helped = topnode(*arguments[:2], "--help")
        assert helped.returncode == 0, arguments
        for option in (each for each in arguments if each.startswith("--")):
            assert option in helped.stdout.decode(), option


def _lines(path: Path) -> Sequence[str]:
    return path.read_text().splitlines()
