package bulk;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.cql3.statements.schema.CreateTableStatement;
import org.apache.cassandra.dht.Murmur3Partitioner;
import org.apache.cassandra.io.util.File;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.utils.MurmurHash;

/**
 * Makes SSTables of run files: `bulk.Bulk JOB.json REPORT.json`.
 *
 * <p>First all rows are read, and sorted as far as memory goes; then what was sorted is merged and written, both
 * tables at the same time.
 */
public final class Bulk {
    /**
     * What is to be done.
     *
     * @param runs run files
     * @param target gets a folder KEYSPACE/TABLE for each table
     * @param scratch for what is sorted, a little more than the run files have bytes; emptied on the way
     * @param records the CREATE TABLE of the records; `listing` likewise
     * @param buckets the number of buckets in which the listing of each prefix lies
     * @param memory bytes for sorting
     * @param sstableBytes about the size of an SSTable
     */
    record Job(
        List<String> runs,
        String target,
        String scratch,
        String keyspace,
        String records,
        String listing,
        Map<String, Integer> buckets,
        long memory,
        long sstableBytes) {}

    /** Seconds of CPU and on the wall. Collecting garbage and compiling are not in them. */
    record Took(double cpu, double wall) {
        static Took of(Stopwatch stopwatch) {
            return new Took(stopwatch.cpuSeconds(), stopwatch.wallSeconds());
        }
    }

    /** What became of a table: rows, of which `written` were left after older ones of the same key had gone. */
    record Made(
        long rows,
        long written,
        long partitions,
        int sstables,
        long octets,
        int spills,
        Took sorting,
        Took spilling,
        Took merging,
        Took writing) {}

    /**
     * What was done.
     *
     * @param encoding reading and laying out
     * @param processCpu all CPU seconds, garbage and all
     * @param samples a key of each SSTable of records
     */
    record Report(
        long rows,
        long firstIndex,
        long lastIndex,
        Took encoding,
        Made records,
        Made listing,
        double processCpu,
        List<byte[]> samples) {}

    private static final int ARENA_MAX = (1 << 31) - (1 << 20);

    private final Job job;
    private final Path scratch;
    private final Records records;
    private final Listing listing;
    private final List<Making> makings;
    private final Stopwatch reading = new Stopwatch();
    private long rows;
    private long firstIndex = Long.MAX_VALUE;
    private long lastIndex;

    private Bulk(Job job) {
        this.job = job;
        scratch = Path.of(job.scratch);
        long now = System.currentTimeMillis() / 1000;
        int each = (int) Math.min(ARENA_MAX, job.memory / 2);
        records = new Records(table(job.records), scratch, each, now);
        listing = new Listing(table(job.listing), job.buckets, scratch, each, now);
        makings = List.of(records, listing);
    }

    public static void main(String[] arguments) {
        try {
            ObjectMapper json = new ObjectMapper().setPropertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE);
            Job job = json.readValue(Path.of(arguments[0]).toFile(), Job.class);
            DatabaseDescriptor.clientInitialization(false);
            DatabaseDescriptor.setPartitionerUnsafe(Murmur3Partitioner.instance);
            json.writeValue(Path.of(arguments[1]).toFile(), new Bulk(job).run());
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
        // Cassandra has threads that would stay.
        System.exit(0);
    }

    private TableMetadata table(String statement) {
        return CreateTableStatement.parse(statement, job.keyspace).partitioner(Murmur3Partitioner.instance).build();
    }

    private Report run() throws Exception {
        reading.start();
        for (String run : job.runs) read(Path.of(run));
        reading.stop();
        Took encoding = encoding();
        ExecutorService threads = Executors.newFixedThreadPool(makings.size());
        Future<Made> recordsMade = threads.submit(() -> make(records));
        Future<Made> listingMade = threads.submit(() -> make(listing));
        return new Report(
            rows,
            firstIndex,
            lastIndex,
            encoding,
            recordsMade.get(),
            listingMade.get(),
            processCpu(),
            records.samples);
    }

    private static double processCpu() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }

    private void read(Path path) throws IOException {
        long[] hash = new long[2];
        try (RunFile run = new RunFile(path)) {
            while (run.nextBlock()) {
                firstIndex = Math.min(firstIndex, run.index);
                lastIndex = Math.max(lastIndex, run.index);
                rows += run.rows;
                ByteBuffer block = ByteBuffer.wrap(run.octets);
                while (run.nextRow()) {
                    MurmurHash.hash3_x64_128(block, run.keyAt, run.keyLength, 0, hash);
                    // As Murmur3Partitioner: there is no such token as the smallest number.
                    long token = hash[0] == Long.MIN_VALUE ? Long.MAX_VALUE : hash[0];
                    for (Making making : makings) making.take(run, token);
                }
            }
        }
    }

    private Took encoding() {
        double cpu = reading.cpuSeconds();
        double wall = reading.wallSeconds();
        for (Making making : makings) {
            cpu -= making.sorter().sorting.cpuSeconds() + making.sorter().spilling.cpuSeconds();
            wall -= making.sorter().sorting.wallSeconds() + making.sorter().spilling.wallSeconds();
        }
        return new Took(cpu, wall);
    }

    private Made make(Making making) throws IOException {
        Sorter sorter = making.sorter();
        List<Path> files = sorter.finish();
        File folder = new File(Path.of(job.target, job.keyspace, making.table().name));
        folder.tryCreateDirectories();
        Stopwatch writing = new Stopwatch();
        try (Merge merge = new Merge(files, making.ranks());
            Tables tables =
                new Tables(making.table(), folder, making.partitions(), sorter.bytes, firstIndex, job.sstableBytes)) {
            writing.start();
            making.write(merge, tables);
            tables.end();
            writing.stop();
            for (Path file : files) Files.delete(file);
            Took merging = Took.of(merge.merging);
            return new Made(
                sorter.rows,
                merge.rows,
                tables.partitions,
                tables.sstables,
                tables.octets,
                files.size(),
                Took.of(sorter.sorting),
                Took.of(sorter.spilling),
                merging,
                new Took(writing.cpuSeconds() - merging.cpu, writing.wallSeconds() - merging.wall));
        }
    }
}
