package bulk;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;

/**
 * Takes rows in any order and number, and leaves sorted files behind for a {@link Merge}; its memory is bounded.
 *
 * <p>The order is that of the groups, inside a group that of a 64-bit number, then that of the keys; of rows with the
 * same key the one with the highest index comes first.
 */
final class Sorter {
    /** In front of each row's bytes: group, order, and how many bytes follow. */
    static final int HEAD = 4 + 8 + 4;

    /** Rows sorted at once are numbered in the low bits of what is sorted by; the high ones are those of the order. */
    private static final int PLACE_BITS = 24;

    private static final long PLACES = (1L << PLACE_BITS) - 1;

    private final Path folder;
    private final String name;
    private final Supplier<int[]> ranks;
    private final List<Path> files = new ArrayList<>();
    private final byte[] octets;
    private final ByteBuffer arena;
    private int[] starts = new int[1 << 16];
    private long[] sorted = {};
    private int count;
    private int begun;

    long rows;
    long bytes;
    final Stopwatch sorting = new Stopwatch();
    final Stopwatch spilling = new Stopwatch();

    /**
     * @param ranks gives the rank of each group by its number; groups may be added until the last row is taken
     * @param memory in bytes, below two gigabytes
     */
    Sorter(Path folder, String name, Supplier<int[]> ranks, int memory) {
        this.folder = folder;
        this.name = name;
        this.ranks = ranks;
        octets = new byte[memory];
        arena = ByteBuffer.wrap(octets);
    }

    /** Give room for the bytes of one row, which must be put there, all of them, before anything else is done. */
    ByteBuffer row(int group, long order, int length) throws IOException {
        if (arena.remaining() < HEAD + length || count > PLACES) spill();
        if (arena.remaining() < HEAD + length) throw new IOException("a row of " + length + " bytes has no room");
        if (count == starts.length) starts = Arrays.copyOf(starts, 2 * count);
        starts[count++] = arena.position();
        rows++;
        bytes += length;
        return arena.putInt(group).putLong(order).putInt(length);
    }

    /** Write what is left, and give the sorted files. */
    List<Path> finish() throws IOException {
        spill();
        return files;
    }

    private void spill() throws IOException {
        if (count == 0) return;
        sorting.start();
        sort();
        sorting.stop();
        spilling.start();
        Path file = folder.resolve(name + "-" + files.size() + ".sorted");
        byte[] chunk = new byte[1 << 20];
        try (OutputStream out = Files.newOutputStream(file)) {
            int filled = 0;
            for (int i = 0; i < count; i++) {
                int start = starts[(int) (sorted[i] & PLACES)];
                int length = HEAD + arena.getInt(start + 12);
                if (filled + length > chunk.length) {
                    out.write(chunk, 0, filled);
                    filled = 0;
                }
                if (length > chunk.length) {
                    out.write(octets, start, length);
                } else {
                    System.arraycopy(octets, start, chunk, filled, length);
                    filled += length;
                }
            }
            out.write(chunk, 0, filled);
        }
        files.add(file);
        spilling.stop();
        arena.clear();
        count = 0;
    }

    /** Fill `sorted`: the places of the rows, with high bits of no meaning. */
    private void sort() {
        if (sorted.length < count) sorted = new long[starts.length];
        int[] rank = ranks.get();
        // Where the rows of each group begin, and after they are placed, where they end.
        int[] ends = new int[rank.length + 1];
        for (int i = 0; i < count; i++) ends[rank[arena.getInt(starts[i])] + 1]++;
        for (int i = 1; i < ends.length; i++) ends[i] += ends[i - 1];
        for (int i = 0; i < count; i++) {
            int start = starts[i];
            sorted[ends[rank[arena.getInt(start)]]++] = arena.getLong(start + 4) & ~PLACES | i;
        }
        int from = 0;
        for (int group = 0; group < rank.length; group++) {
            int to = ends[group];
            Arrays.sort(sorted, from, to);
            settle(from, to);
            from = to;
        }
    }

    /** Settle the order of the few rows whose numbers have the same high bits. */
    private void settle(int from, int to) {
        for (int i = from; i < to; ) {
            int end = i + 1;
            while (end < to && (sorted[end] & ~PLACES) == (sorted[i] & ~PLACES)) end++;
            if (end - i > 1) {
                long[] tied = Arrays.stream(sorted, i, end).boxed().sorted(this::compare).mapToLong(x -> x).toArray();
                System.arraycopy(tied, 0, sorted, i, tied.length);
            }
            i = end;
        }
    }

    private int compare(long one, long other) {
        int a = starts[(int) (one & PLACES)];
        int b = starts[(int) (other & PLACES)];
        int byOrder = Long.compare(arena.getLong(a + 4), arena.getLong(b + 4));
        return byOrder != 0 ? byOrder : compareKeys(octets, a + HEAD, octets, b + HEAD);
    }

    /** Compare two rows' bytes, which begin at these places: by key, then the higher index first. */
    static int compareKeys(byte[] one, int a, byte[] other, int b) {
        int aEnd = a + 2 + ((one[a] & 0xFF) << 8 | one[a + 1] & 0xFF);
        int bEnd = b + 2 + ((other[b] & 0xFF) << 8 | other[b + 1] & 0xFF);
        int byKey = Arrays.compareUnsigned(one, a + 2, aEnd, other, b + 2, bEnd);
        return byKey != 0 ? byKey : Arrays.compareUnsigned(other, bEnd, bEnd + 8, one, aEnd, aEnd + 8);
    }
}
