package bulk;

import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The rows of sorted files in their order. Of rows with the same key only the one with the highest index is given. */
final class Merge implements Closeable {
    private static final int BUFFER = 256 << 10;

    /** Rows are merged in batches, so that the clock is seldom read. */
    private static final int BATCH = 1_024;

    private final int[] ranks;
    private final List<Source> sources = new ArrayList<>();

    /** The first {@code live} are a heap, the one whose row comes next in front. */
    private final Source[] heap;

    private int live;
    private final Row[] batch = new Row[BATCH];
    private int filled;
    private int taken;
    private Row last;
    long rows;

    final Stopwatch merging = new Stopwatch();

    Merge(List<Path> files, int[] ranks) throws IOException {
        this.ranks = ranks;
        heap = new Source[files.size()];
        for (Path file : files) {
            Source source = new Source(file);
            sources.add(source);
            if (source.next()) heap[live++] = source;
        }
        for (int i = live / 2 - 1; i >= 0; i--) sink(i);
    }

    /** The next row, without going behind it; null behind the last one. */
    Row peek() throws IOException {
        if (taken == filled) fill();
        return taken == filled ? null : batch[taken];
    }

    /** The next row; null behind the last one. */
    Row next() throws IOException {
        Row row = peek();
        if (row != null) batch[taken++] = null;
        return row;
    }

    private void fill() throws IOException {
        merging.start();
        rows += filled;
        filled = taken = 0;
        while (live > 0 && filled < BATCH) {
            Source source = heap[0];
            Row row = source.row();
            if (last == null || !row.isSameAs(last)) batch[filled++] = last = row;
            if (!source.next()) heap[0] = heap[--live];
            sink(0);
        }
        merging.stop();
    }

    private void sink(int at) {
        Source source = heap[at];
        for (int child = 2 * at + 1; child < live; child = 2 * at + 1) {
            if (child + 1 < live && compare(heap[child + 1], heap[child]) < 0) child++;
            if (compare(source, heap[child]) <= 0) break;
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = source;
    }

    private int compare(Source one, Source other) {
        int byGroup = Integer.compare(ranks[one.group], ranks[other.group]);
        if (byGroup != 0) return byGroup;
        int byOrder = Long.compare(one.order, other.order);
        if (byOrder != 0) return byOrder;
        return Sorter.compareKeys(one.octets, one.at, other.octets, other.at);
    }

    @Override
    public void close() throws IOException {
        for (Source source : sources) source.in.close();
    }

    /** One sorted file, and its present row. */
    private static final class Source {
        final InputStream in;
        byte[] octets = new byte[BUFFER];
        ByteBuffer buffer = ByteBuffer.wrap(octets);
        int end;
        int at;
        int length;
        int group;
        long order;

        Source(Path file) throws IOException {
            in = Files.newInputStream(file);
        }

        boolean next() throws IOException {
            at += length;
            if (!has(Sorter.HEAD)) return false;
            group = buffer.getInt(at);
            order = buffer.getLong(at + 4);
            length = buffer.getInt(at + 12);
            if (!has(Sorter.HEAD + length)) throw new IOException("a sorted file is cut off");
            at += Sorter.HEAD;
            return true;
        }

        Row row() {
            byte[] copy = new byte[length];
            System.arraycopy(octets, at, copy, 0, length);
            return new Row(group, order, copy);
        }

        /** Have so many bytes in the buffer from `at` on; false at the end of the file. */
        private boolean has(int wanted) throws IOException {
            if (end - at >= wanted) return true;
            byte[] old = octets;
            if (wanted > octets.length) buffer = ByteBuffer.wrap(octets = new byte[wanted]);
            System.arraycopy(old, at, octets, 0, end - at);
            end -= at;
            at = 0;
            end += in.readNBytes(octets, end, octets.length - end);
            return end >= wanted;
        }
    }
}
