package bulk;

import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.cassandra.db.DecoratedKey;
import org.apache.cassandra.db.DeletionTime;
import org.apache.cassandra.db.rows.AbstractUnfilteredRowIterator;
import org.apache.cassandra.db.rows.EncodingStats;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.db.rows.Rows;
import org.apache.cassandra.db.rows.Unfiltered;
import org.apache.cassandra.schema.TableMetadata;

/** A partition whose rows are made while it is written. */
final class Partition extends AbstractUnfilteredRowIterator {
    /** Gives one row after the other, and null behind the last. */
    interface Source {
        Row next() throws IOException;
    }

    private final Source rows;

    Partition(TableMetadata table, DecoratedKey key, Source rows) {
        super(
            table,
            key,
            DeletionTime.LIVE,
            table.regularAndStaticColumns(),
            Rows.EMPTY_STATIC_ROW,
            false,
            EncodingStats.NO_STATS);
        this.rows = rows;
    }

    @Override
    protected Unfiltered computeNext() {
        try {
            Row row = rows.next();
            return row == null ? endOfData() : row;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
