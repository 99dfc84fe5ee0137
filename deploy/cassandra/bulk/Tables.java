package bulk;

import java.io.Closeable;
import java.util.List;
import java.util.stream.Stream;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.db.SerializationHeader;
import org.apache.cassandra.db.rows.EncodingStats;
import org.apache.cassandra.db.rows.UnfilteredRowIterator;
import org.apache.cassandra.io.sstable.Component;
import org.apache.cassandra.io.sstable.Descriptor;
import org.apache.cassandra.io.sstable.SSTableId;
import org.apache.cassandra.io.sstable.SSTableTxnWriter;
import org.apache.cassandra.io.sstable.UUIDBasedSSTableId;
import org.apache.cassandra.io.sstable.format.SSTableFormat;
import org.apache.cassandra.io.util.File;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.schema.TableMetadataRef;
import org.apache.cassandra.service.ActiveRepairService;

/**
 * Writes the partitions of one table, which come in their order, into SSTables of about the same size.
 *
 * <p>CQLSSTableWriter is passed over: it makes its SSTables for no partitions, so their bloom filters are empty
 * (CASSANDRA-21423), and encodes timestamps by their distance from a year, which journal indices are far from.
 */
final class Tables implements Closeable {
    private final TableMetadata table;
    private final File folder;
    private final long sstableBytes;
    private final SerializationHeader header;
    private final SSTableFormat<?, ?> format = DatabaseDescriptor.getSSTableFormats().get("bti");
    private final java.util.function.Supplier<? extends SSTableId> ids =
        UUIDBasedSSTableId.Builder.instance.generator(Stream.empty());

    private Descriptor descriptor;
    private SSTableTxnWriter writer;
    private long partitionsLeft;
    private long room;

    /** What a partition takes: first as it comes, then as it is on the disk. */
    private double partitionBytes;

    long partitions;
    long octets;
    int sstables;

    /**
     * @param partitions at most so many will come
     * @param octets they have together as they come, at most
     * @param firstIndex no row is older
     */
    Tables(TableMetadata table, File folder, long partitions, long octets, long firstIndex, long sstableBytes) {
        this.table = table;
        this.folder = folder;
        this.sstableBytes = sstableBytes;
        partitionsLeft = partitions;
        partitionBytes = (double) octets / Math.max(1, partitions);
        EncodingStats stats = new EncodingStats(firstIndex, EncodingStats.NO_STATS.minLocalDeletionTime, 0);
        header = new SerializationHeader(true, table, table.regularAndStaticColumns(), stats);
    }

    /** Write a partition; true when it is the first one of an SSTable. */
    boolean append(UnfilteredRowIterator partition) {
        if (writer != null && room == 0) finish();
        boolean begins = writer == null;
        if (begins) begin();
        writer.append(partition);
        room--;
        partitionsLeft--;
        partitions++;
        return begins;
    }

    private void begin() {
        // The rest is shared out evenly.
        long share = Math.max(1, (long) Math.ceil(partitionsLeft * partitionBytes / sstableBytes));
        room = Math.max(1, (partitionsLeft + share - 1) / share);
        descriptor = new Descriptor(folder, table.keyspace, table.name, ids.get(), format);
        writer = SSTableTxnWriter.create(
            TableMetadataRef.forOfflineTools(table),
            descriptor,
            room,
            ActiveRepairService.UNREPAIRED_SSTABLE,
            ActiveRepairService.NO_PENDING_REPAIR,
            false,
            header,
            List.of(),
            null);
    }

    private void finish() {
        writer.finish(false);
        writer.close();
        for (Component component : descriptor.discoverComponents()) octets += descriptor.fileFor(component).length();
        partitionBytes = (double) octets / partitions;
        writer = null;
        sstables++;
    }

    /** End the last SSTable. */
    void end() {
        if (writer != null) finish();
    }

    /** Where it did not come to an end, leave nothing of the last SSTable. */
    @Override
    public void close() {
        if (writer != null) writer.abort(null);
    }
}
