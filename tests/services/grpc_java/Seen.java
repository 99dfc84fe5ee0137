package grpcjava;

import java.util.List;
import java.util.Map;

/** What the program tells. */
record Seen(Map<String, AtEndpoint> endpoints, Aged aging) {
    /** What was seen at one endpoint. */
    record AtEndpoint(Busy busy, Quiet quiet, Reply stranger) {}

    /** What was seen on one channel on which much was asked. */
    record Busy(
        Map<String, Reply> calls,
        List<List<List<Reply>>> crowds,
        Reply overdue,
        Map<Integer, Integer> abandoned,
        Reply again,
        int connections) {}

    /** What was seen on one channel on which nothing was asked for a while. */
    record Quiet(Reply before, Reply after, int connections) {}

    /** What was seen on one channel whose connections were ended one after another. */
    record Aged(int asked, List<Reply> failed, int connections) {}
}
