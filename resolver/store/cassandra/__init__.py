"""The store of several machines: Cassandra. One writer at a time, any number of reading processes.

settings     which ring, and how it is reached
connecting   the driver's cluster: nodes, login, TLS, ways of asking
session      a migrated keyspace, ready to be asked
asking       between the driver's thread and the event loop
hedging      asking a second node when the first is slow
border       what the driver raises, as Faults
layout       how things lie: parts, buckets, encodings
statements   what is asked, in CQL
migrating    the schema, in numbered files (schema/)
records      many small reads gathered into few
listing      identifiers below a prefix
reader       StoreReader and JournalReader, in any process
"""
