"""The store of several machines: Cassandra. One writer at a time, any number of reading processes.

    settings     which ring, and how it is reached
    connecting   the driver's cluster: nodes, login, TLS, ways of asking
    session      a migrated keyspace, ready to be asked
    asking       between the driver's thread and the event loop
    border       what the driver raises, as Faults
    hedging      when a second node is asked
    placing      which node holds which key
    layout       how things lie: parts, buckets, encodings
    statements   what is asked, in CQL
    migrating    the schema, in numbered files (schema/)
    checking     is a ring fit for a registry?

    records      many small reads gathered into few
    listing      identifiers below a prefix
    reader       StoreReader and JournalReader, in any process
    survey       everything, from one end to the other, for audits

    lease        who writes
    applying     what is written for a commit
    carrying     many statements, each until it is answered
    spans        in how many buckets a listing lies, and `growing`: moving it to more
    forgetting   what the feed need not remember
    writer       StoreWriter, in the process whose turn it is
    counts       what is counted, beside the commits

    runs, bulk, offline, putting_in    loads that go around the servers

The driver has threads of its own: nothing here is opened before a fork.
"""
