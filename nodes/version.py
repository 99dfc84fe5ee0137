"""Which version of the software this is."""

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    """Give the version of the installed distribution; a source tree that nobody installed has none."""
    try:
        return version("topnode")
    except PackageNotFoundError:
        return "0+source"
