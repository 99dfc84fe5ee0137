package bulk;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.apache.cassandra.db.Clustering;
import org.apache.cassandra.db.DecoratedKey;
import org.apache.cassandra.db.DeletionTime;
import org.apache.cassandra.db.LivenessInfo;
import org.apache.cassandra.db.marshal.ByteBufferAccessor;
import org.apache.cassandra.db.marshal.CompositeType;
import org.apache.cassandra.db.rows.BTreeRow;
import org.apache.cassandra.db.rows.BufferCell;
import org.apache.cassandra.db.rows.Row.Deletion;
import org.apache.cassandra.schema.ColumnMetadata;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.utils.btree.BTree;

/** The table of the listing: a partition for each bucket of a prefix, in it the keys in the order of their hashes. */
final class Listing implements Making {
    private static final int FOUND = 1;

    // What follows on a row's index: what is registered, and how it is spelled.
    private static final byte DELETED = 0;
    private static final byte SPELLED_AS_KEY = 1;
    private static final byte SPELLED = 2;

    /** A prefix: in how many buckets its keys lie, and the number of the first one's group. */
    private record Span(byte[] prefix, int buckets, int firstGroup) {}

    private final TableMetadata table;
    private final ColumnMetadata spelling;
    private final Sorter sorter;
    private final long now;
    private final Map<String, Integer> buckets;
    private final Map<ByteBuffer, Span> spans = new HashMap<>();
    private final List<DecoratedKey> groups = new ArrayList<>();

    /** Most rows have the prefix of the row before. */
    private Span last = new Span(new byte[0], 0, 0);

    Listing(TableMetadata table, Map<String, Integer> buckets, Path folder, int memory, long now) {
        this.table = table;
        this.buckets = buckets;
        this.now = now;
        spelling = table.getColumn(ByteBuffer.wrap("spelling".getBytes()));
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
        int[] ranks = new int[groups.size()];
        int[] inOrder = IntStream.range(0, ranks.length)
            .boxed()
            .sorted((a, b) -> groups.get(a).compareTo(groups.get(b)))
            .mapToInt(x -> x)
            .toArray();
        for (int i = 0; i < inOrder.length; i++) ranks[inOrder[i]] = i;
        return ranks;
    }

    @Override
    public long partitions() {
        return groups.size();
    }

    @Override
    public void take(RunFile run, long hash) throws IOException {
        Span span = span(run);
        // As layout.bucket_of has it: the numbers of buckets begin at their count, and follow the hashes.
        int bucket = (int) ((hash ^ Long.MIN_VALUE) >>> 1 >>> 63 - Integer.numberOfTrailingZeros(span.buckets));
        // The identifier is the first field of the record, which is the second field of the body.
        byte[] octets = run.octets;
        int lengthAt = behindVarint(octets, run.publicAt + 3) + 1;
        int spelledAt = behindVarint(octets, lengthAt);
        int spelledLength = octets[lengthAt] & 0x7F | (spelledAt - lengthAt > 1 ? octets[lengthAt + 1] << 7 : 0);
        byte kind = octets[run.publicAt + 1] != FOUND ? DELETED
            : Arrays.equals(octets, spelledAt, spelledAt + spelledLength, octets, run.keyAt, run.keyAt + run.keyLength)
                ? SPELLED_AS_KEY
                : SPELLED;
        int kept = kind == SPELLED ? spelledLength : 0;
        sorter.row(span.firstGroup + bucket, hash, Row.AROUND_KEY + run.keyLength + 1 + kept)
            .putShort((short) run.keyLength)
            .put(octets, run.keyAt, run.keyLength)
            .putLong(run.index)
            .put(kind)
            .put(octets, spelledAt, kept);
    }

    private static int behindVarint(byte[] octets, int at) {
        while (octets[at] < 0) at++;
        return at + 1;
    }

    private Span span(RunFile run) throws IOException {
        byte[] octets = run.octets;
        int end = run.keyAt + last.prefix.length;
        if (last.buckets > 0 && last.prefix.length < run.keyLength && octets[end] == '/'
            && Arrays.equals(octets, run.keyAt, end, last.prefix, 0, last.prefix.length)) return last;
        for (end = run.keyAt; octets[end] != '/'; end++)
            if (end + 1 == run.keyAt + run.keyLength) throw new IOException("a key has no slash");
        byte[] prefix = Arrays.copyOfRange(octets, run.keyAt, end);
        last = spans.get(ByteBuffer.wrap(prefix));
        if (last == null) spans.put(ByteBuffer.wrap(prefix), last = span(prefix));
        return last;
    }

    private Span span(byte[] prefix) throws IOException {
        String text = new String(prefix, StandardCharsets.UTF_8);
        Integer count = buckets.get(text);
        if (count == null) throw new IOException("nobody said how many buckets the listing of " + text + " has");
        CompositeType keyType = (CompositeType) table.partitionKeyType;
        Span span = new Span(prefix, count, groups.size());
        for (int bucket = count; bucket < 2 * count; bucket++) {
            ByteBuffer number = ByteBuffer.allocate(4).putInt(0, bucket);
            ByteBuffer key = CompositeType.build(ByteBufferAccessor.instance, ByteBuffer.wrap(prefix), number);
            groups.add(table.partitioner.decorateKey(key));
        }
        return span;
    }

    @Override
    public void write(Merge merge, Tables tables) throws IOException {
        for (Row row = merge.peek(); row != null; row = merge.peek())
            tables.append(partition(merge, row.group()));
    }

    private Partition partition(Merge merge, int group) {
        return new Partition(table, groups.get(group), () -> next(merge, group));
    }

    private org.apache.cassandra.db.rows.Row next(Merge merge, int group) throws IOException {
        Row next = merge.peek();
        return next != null && next.group() == group ? made(merge.next()) : null;
    }

    private org.apache.cassandra.db.rows.Row made(Row row) {
        long index = row.index();
        ByteBuffer key = row.key();
        Clustering<ByteBuffer> clustering = Clustering.make(ByteBuffer.allocate(8).putLong(0, row.order()), key);
        ByteBuffer rest = row.rest();
        byte kind = rest.get();
        if (kind == DELETED)
            return BTreeRow.emptyDeletedRow(clustering, Deletion.regular(DeletionTime.build(index, now)));
        ByteBuffer spelled = kind == SPELLED_AS_KEY ? key : rest.slice();
        return BTreeRow.create(
            clustering,
            LivenessInfo.create(index, now),
            Deletion.LIVE,
            BTree.singleton(BufferCell.live(spelling, index, spelled)));
    }
}
