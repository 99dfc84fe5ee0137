package bulk;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import org.apache.cassandra.db.BufferDecoratedKey;
import org.apache.cassandra.db.Clustering;
import org.apache.cassandra.db.DecoratedKey;
import org.apache.cassandra.db.LivenessInfo;
import org.apache.cassandra.db.rows.BTreeRow;
import org.apache.cassandra.db.rows.BufferCell;
import org.apache.cassandra.dht.Murmur3Partitioner.LongToken;
import org.apache.cassandra.schema.ColumnMetadata;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.utils.ByteBufferUtil;

/** The table of the records: a partition for each key, in the order of their tokens. */
final class Records implements Making {
    private final TableMetadata table;
    private final ColumnMetadata publicColumn;
    private final ColumnMetadata fullColumn;
    private final Sorter sorter;
    private final long now;
    private final org.apache.cassandra.db.rows.Row.Builder builder = BTreeRow.sortedBuilder();

    /** One key of each SSTable. */
    final List<byte[]> samples = new ArrayList<>();

    Records(TableMetadata table, Path folder, int memory, long now) {
        this.table = table;
        this.now = now;
        publicColumn = table.getColumn(ByteBuffer.wrap("public_body".getBytes()));
        fullColumn = table.getColumn(ByteBuffer.wrap("full_body".getBytes()));
        sorter = new Sorter(folder, table.name, this::ranks, memory);
    }

    @Override
    public TableMetadata table() {
        return table;
    }

    @Override
    public Sorter sorter() {
        return sorter;
    }

    @Override
    public int[] ranks() {
        return new int[1];
    }

    @Override
    public long partitions() {
        return sorter.rows;
    }

    @Override
    public void take(RunFile run, long hash) throws IOException {
        int publicLength = run.publicLength + run.tailLength;
        int fullLength = run.fullLength == 0 ? 0 : run.fullLength + run.tailLength;
        ByteBuffer row = sorter.row(0, hash, Row.AROUND_KEY + run.keyLength + 5 + publicLength + fullLength)
            .putShort((short) run.keyLength)
            .put(run.octets, run.keyAt, run.keyLength)
            .putLong(run.index)
            .put((byte) (run.isNew ? 1 : 0))
            .putInt(publicLength)
            .put(run.octets, run.publicAt, run.publicLength)
            .put(run.octets, run.tailAt, run.tailLength);
        if (fullLength > 0)
            row.put(run.octets, run.fullAt, run.fullLength).put(run.octets, run.tailAt, run.tailLength);
    }

    @Override
    public void write(Merge merge, Tables tables) throws IOException {
        for (Row row = merge.next(); row != null; row = merge.next()) {
            DecoratedKey key = new BufferDecoratedKey(new LongToken(row.order()), row.key());
            Iterator<org.apache.cassandra.db.rows.Row> made = List.of(made(row)).iterator();
            boolean begins = tables.append(new Partition(table, key, () -> made.hasNext() ? made.next() : null));
            if (begins) samples.add(ByteBufferUtil.getArray(key.getKey()));
        }
    }

    private org.apache.cassandra.db.rows.Row made(Row row) {
        long index = row.index();
        ByteBuffer rest = row.rest();
        boolean isNew = rest.get() != 0;
        ByteBuffer body = rest.slice(rest.position() + 4, rest.getInt());
        ByteBuffer full = rest.slice(rest.position() + body.remaining(), rest.remaining() - body.remaining());
        builder.newRow(Clustering.EMPTY);
        builder.addPrimaryKeyLivenessInfo(LivenessInfo.create(index, now));
        if (full.hasRemaining()) builder.addCell(BufferCell.live(fullColumn, index, full));
        else if (!isNew) builder.addCell(BufferCell.tombstone(fullColumn, index, now));
        builder.addCell(BufferCell.live(publicColumn, index, body));
        return builder.build();
    }
}
