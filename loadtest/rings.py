"""Which ring is measured, by the options that all scripts about rings have."""

import argparse

from resolver.store.cassandra.settings import CassandraSettings


def ring_by_options(program: str, description: str | None) -> CassandraSettings:
    """Read the command line of a script that measures a ring which runs already."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9042)
    parser.add_argument("--datacenter", default="datacenter1")
    parser.add_argument("--keyspace", default="loadtest")
    parser.add_argument("--replicas", type=int, default=1)
    arguments = parser.parse_args()
    return CassandraSettings(
        hosts=(arguments.host,),
        port=arguments.port,
        datacenter=arguments.datacenter,
        keyspace=arguments.keyspace,
        replicas=arguments.replicas,
    )
