"""`topnode key`: the keys with which nodes and operators sign."""

from pathlib import Path

import click

from nodes.terminal import output, print_json, table
from resolver.errors import Fault, Reason
from resolver.trust.keys import Algorithm, PrivateKey, PublicKey


@click.group()
def command() -> None:
    """Make keys, and look at them."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice([algorithm.value for algorithm in Algorithm]),
    default=Algorithm.ED25519.value,
    show_default=True,
    help="What it signs by.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the key's name as one JSON document.")
def new(file: Path, *, algorithm: str, as_json: bool) -> None:
    """Make a private key in FILE, which only its owner may read; never over another file.

    The private key stays where it is: a node's public key travels in its application, and an operator's public key
    (`topnode key show FILE --pem`) goes into the settings of the top-level node.
    """
    key = PrivateKey.generate(Algorithm(algorithm))
    key.to_file(file)
    _tell(key.public, f"{file} holds a new private key.", as_json=as_json)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--pem", is_flag=True, help="Print the public key as PEM.")
@click.option("--json", "as_json", is_flag=True, help="Print the key's name as one JSON document.")
def show(file: Path, *, pem: bool, as_json: bool) -> None:
    """Show whose name a key has: the public half of the private or public key in FILE."""
    public = _public(file)
    if pem:
        click.echo(public.to_pem(), nl=False)
    else:
        _tell(public, "", as_json=as_json)


def _public(file: Path) -> PublicKey:
    """Read either half of a key."""
    try:
        return PrivateKey.from_file(file).public
    except Fault as fault:
        if fault.reason is not Reason.KEY_INVALID:
            # A public key may be read by anybody, so its file may have any rights.
            return _public_or(file, fault)
    return PublicKey.from_file(file)


def _public_or(file: Path, first: Fault) -> PublicKey:
    try:
        return PublicKey.from_file(file)
    except Fault:
        raise first from None


def _tell(public: PublicKey, said: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"key_id": public.key_id, "algorithm": public.algorithm.value, "public": public.to_pem()})
        return
    if said:
        click.echo(said)
    shown = table("key id", "algorithm")
    shown.add_row(public.key_id, public.algorithm.value)
    output().print(shown)
