package grpcjava;

import java.util.List;
import java.util.Map;

/** What the program is to do: the same names as in tests/journeys/test_clients.py, which says what each means. */
record Plan(
    Map<String, Endpoint> endpoints,
    Endpoint aging,
    List<Ask> calls,
    List<Crowd> crowds,
    double overdue,
    int abandoned,
    double quiet,
    int connections) {

    /** Where a node listens; without an authority's file nothing is encrypted. */
    record Endpoint(String address, String authority, String certificate, String key) {
        Endpoint withoutCertificate() {
            return new Endpoint(address, authority, "", "");
        }
    }

    /** Calls that are made at the same time, each of them so many times. */
    record Crowd(List<Ask> calls, int times) {}

    /** One call. */
    record Ask(String name, String method, byte[] request, boolean streaming, boolean gzip) {}
}
