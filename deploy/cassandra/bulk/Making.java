package bulk;

import java.io.IOException;
import org.apache.cassandra.schema.TableMetadata;

/** How the rows of a run become those of one table. */
interface Making {
    TableMetadata table();

    Sorter sorter();

    /** The rank of each group of rows that there is so far, by its number. */
    int[] ranks();

    /** How many partitions there are, or a few more. */
    long partitions();

    /** Give the run's present row to the sorter; the hash is that of its key. */
    void take(RunFile run, long hash) throws IOException;

    /** Write what comes out of the sort. */
    void write(Merge merge, Tables tables) throws IOException;
}
