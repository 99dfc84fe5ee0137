"""The crate of the native front: what its own tests say, and that what is fuzzed is what the wheel is built of."""

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from tests.habits.tree import ROOT, copied

CRATE: Final = "resolver/front/native"
FUZZED: Final = f"{CRATE}/fuzz"
MANIFESTS: Final = tuple(f"{folder}/Cargo.{kind}" for folder in (CRATE, FUZZED) for kind in ("toml", "lock"))
OF_PYTHON: Final = {"pyo3"}
OF_ENGINE: Final = {"libfuzzer-sys"}


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def drifted(tree: Path) -> set[str]:
    """Name what the two crates are made of differently: dependencies, their versions, how they are compiled."""
    built, fuzzed = (read(tree / folder / "Cargo.toml") for folder in (CRATE, FUZZED))
    wanted = {name: of for name, of in built["dependencies"].items() if name not in OF_PYTHON}
    found = {name: of for name, of in fuzzed["dependencies"].items() if name not in OF_ENGINE}
    different = {name for name, _ in _items(wanted) ^ _items(found)}
    of_packages = fuzzed["profile"]["release"].pop("package")
    assert set(of_packages) == {fuzzed["package"]["name"]}, "of these alone nothing is shared"
    profiles = [manifest["profile"]["release"] for manifest in (built, fuzzed)]
    for profile in profiles:
        # How the last step is done changes nothing in those before it, and takes a minute for each program.
        del profile["lto"]
    different |= {"release"} if profiles[0] != profiles[1] else set()
    locked, fuzzed_locked = (_versions(tree / folder / "Cargo.lock", set(wanted)) for folder in (CRATE, FUZZED))
    return different | {name for name, _ in locked ^ fuzzed_locked}


def _items(dependencies: dict[str, Any]) -> set[tuple[str, str]]:
    return {(name, str(of)) for name, of in dependencies.items()}


def _versions(lock: Path, names: set[str]) -> set[tuple[str, str]]:
    return {(each["name"], each["version"]) for each in read(lock)["package"] if each["name"] in names}


def test_what_is_fuzzed_is_what_the_wheel_is_built_of() -> None:
    assert drifted(ROOT) == set()


@pytest.mark.parametrize(
    ("name", "line", "planted", "found"),
    [
        (f"{CRATE}/Cargo.toml", 'slab = "0.4"', 'slab = "0.4"\nsmallvec = "1"', {"smallvec"}),
        (f"{FUZZED}/Cargo.toml", 'h2 = "0.4.20"', 'h2 = "0.4.19"', {"h2"}),
        (f"{FUZZED}/Cargo.toml", "codegen-units = 1", "codegen-units = 2", {"release"}),
        (f"{FUZZED}/Cargo.lock", 'name = "h2"\nversion = "', 'name = "h2"\nversion = "1', {"h2"}),
    ],
)
def test_a_planted_difference_is_found(tmp_path: Path, name: str, line: str, planted: str, found: set[str]) -> None:
    path = copied(tmp_path, *MANIFESTS) / name
    text = path.read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, planted, 1), encoding="utf-8")
    assert drifted(tmp_path) == found


def test_every_target_has_an_engine_and_seeds() -> None:
    programs = {program["name"]: program["path"] for program in read(ROOT / FUZZED / "Cargo.toml")["bin"]}
    assert programs == {path.stem: f"engine/{path.name}" for path in (ROOT / FUZZED / "engine").iterdir()}
    assert set(programs) == {path.name for path in (ROOT / FUZZED / "seeds").iterdir()}
    assert set(programs) == {path.stem for path in (ROOT / FUZZED / "targets").iterdir()} - {"mod"}


@pytest.mark.needs("cargo")
def test_what_the_crate_says_of_itself_holds() -> None:
    """Its own tests, built of what the wheel was built of, and without Python; seeds and finds are among them."""
    command = ["cargo", "test", "--release", "--locked", "--manifest-path", str(ROOT / FUZZED / "Cargo.toml")]
    environment = os.environ | {"CARGO_TARGET_DIR": str(ROOT / "build" / "native")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "test targets::tests::every_seed_holds_however_it_is_cut_off_or_changed ... ok" in ran.stdout
