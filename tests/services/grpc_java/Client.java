package grpcjava;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.TypeAdapter;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Asks a node what the plan on its standard input says, through grpc-java, and prints what it got as one JSON object;
 * tests/journeys/test_clients.py writes the plan and compares.
 *
 * <p>Messages are bytes here. What they mean is protobuf's business and the same in all languages; what is tried out is
 * how grpc-java and a front get on.
 */
public final class Client {
    private static final Gson JSON =
        new GsonBuilder().registerTypeAdapter(byte[].class, new Octets()).serializeNulls().create();

    private Client() {}

    /** The parts of what is asked at one endpoint, while they run. */
    private record Running(Future<Seen.Busy> busy, Future<Seen.Quiet> quiet, Future<Reply> stranger) {
        Seen.AtEndpoint ended() throws InterruptedException, ExecutionException {
            return new Seen.AtEndpoint(busy.get(), quiet.get(), stranger.get());
        }
    }

    public static void main(String[] arguments) throws InterruptedException, ExecutionException {
        Plan plan = JSON.fromJson(new InputStreamReader(System.in, StandardCharsets.UTF_8), Plan.class);
        ExecutorService threads = Executors.newCachedThreadPool();
        Map<String, Running> running = new LinkedHashMap<>();
        plan.endpoints().forEach((name, endpoint) -> running.put(name, begun(threads, plan, endpoint)));
        Future<Seen.Aged> aging = threads.submit(() -> Asking.aging(plan, threads));
        Map<String, Seen.AtEndpoint> endpoints = new LinkedHashMap<>();
        for (Map.Entry<String, Running> each : running.entrySet()) {
            endpoints.put(each.getKey(), each.getValue().ended());
        }
        System.out.println(JSON.toJson(new Seen(endpoints, aging.get())));
        threads.shutdown();
    }

    private static Running begun(ExecutorService threads, Plan plan, Plan.Endpoint endpoint) {
        Callable<Seen.Busy> busy = () -> Asking.busy(plan, endpoint);
        Callable<Seen.Quiet> quiet = () -> Asking.quiet(plan, endpoint);
        Callable<Reply> stranger = () -> Asking.stranger(plan, endpoint);
        return new Running(threads.submit(busy), threads.submit(quiet), threads.submit(stranger));
    }

    /** Bytes are base64 in JSON. */
    private static final class Octets extends TypeAdapter<byte[]> {
        @Override
        public void write(JsonWriter out, byte[] octets) throws IOException {
            if (octets == null) {
                out.nullValue();
            } else {
                out.value(Base64.getEncoder().encodeToString(octets));
            }
        }

        @Override
        public byte[] read(JsonReader in) throws IOException {
            return Base64.getDecoder().decode(in.nextString());
        }
    }
}
