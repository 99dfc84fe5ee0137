package grpcjava;

import io.grpc.CallOptions;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** The parts of a plan. */
final class Asking {
    /** How many calls are abandoned at a time: fewer than a connection may have. */
    private static final int AT_ONCE = 100;

    /** How many ask at once on a channel whose connections age, so that some call is always in flight. */
    private static final int CALLERS = 4;

    /** How many failures are told of. */
    private static final int TOLD = 5;

    /** Milliseconds that leave a node time to see what was begun. */
    private static final long MOMENT = 50;

    /** Milliseconds between two calls, which leave others the machine. */
    private static final long PAUSE = 2;

    private Asking() {}

    /** Asks much on one channel. */
    static Seen.Busy busy(Plan plan, Plan.Endpoint endpoint) throws IOException, InterruptedException {
        Plan.Ask first = plan.calls().get(0);
        try (Opened opened = Opened.to(endpoint)) {
            Map<String, Reply> calls = new LinkedHashMap<>();
            for (Plan.Ask ask : plan.calls()) {
                calls.put(ask.name(), opened.ask(ask));
            }
            List<List<List<Reply>>> crowds = plan.crowds().stream().map(crowd -> together(opened, crowd)).toList();
            Reply overdue = opened.beginWithoutMessage(first, within(plan.overdue())).reply().join();
            Map<Integer, Integer> abandoned = new TreeMap<>();
            for (int left = plan.abandoned(); left > 0; left -= AT_ONCE) {
                for (Reply reply : abandoned(opened, first, Math.min(left, AT_ONCE))) {
                    abandoned.merge(reply.code(), 1, Integer::sum);
                }
            }
            Reply again = opened.ask(first);
            return new Seen.Busy(calls, crowds, overdue, abandoned, again, opened.connections());
        }
    }

    /** Makes all calls of a crowd at the same time, and gives the different replies to each. */
    private static List<List<Reply>> together(Opened opened, Plan.Crowd crowd) {
        List<Plan.Ask> calls = crowd.calls();
        List<CompletableFuture<Reply>> begun = new ArrayList<>();
        for (int at = 0; at < calls.size() * crowd.times(); at++) {
            begun.add(opened.begin(calls.get(at % calls.size())));
        }
        List<List<Reply>> different = new ArrayList<>();
        calls.forEach(ask -> different.add(new ArrayList<>()));
        for (int at = 0; at < begun.size(); at++) {
            Reply reply = begun.get(at).join();
            List<Reply> of = different.get(at % calls.size());
            if (of.isEmpty() || !of.get(0).isSameAs(reply)) {
                of.add(reply);
            }
        }
        return different;
    }

    /** Begins calls, leaves the node a moment to see them, and cancels them. */
    private static List<Reply> abandoned(Opened opened, Plan.Ask ask, int count) throws InterruptedException {
        List<Opened.Lacking> begun = new ArrayList<>();
        for (int at = 0; at < count; at++) {
            begun.add(opened.beginWithoutMessage(ask, within(Opened.PATIENCE_SECONDS)));
        }
        Thread.sleep(MOMENT);
        begun.forEach(each -> each.call().cancel("abandoned", null));
        return begun.stream().map(each -> each.reply().join()).toList();
    }

    /** Asks, is silent but for pings, and asks again. */
    static Seen.Quiet quiet(Plan plan, Plan.Endpoint endpoint) throws IOException, InterruptedException {
        try (Opened opened = Opened.probing(endpoint)) {
            Reply before = opened.ask(plan.calls().get(0));
            Thread.sleep((long) (plan.quiet() * 1_000));
            Reply after = opened.ask(plan.calls().get(0));
            return new Seen.Quiet(before, after, opened.connections());
        }
    }

    /** Asks without a certificate of its own. */
    static Reply stranger(Plan plan, Plan.Endpoint endpoint) throws IOException {
        try (Opened opened = Opened.to(endpoint.withoutCertificate())) {
            return opened.ask(plan.calls().get(0));
        }
    }

    /** Asks on one channel until it has had so many connections. */
    static Seen.Aged aging(Plan plan, ExecutorService threads)
        throws IOException, InterruptedException, ExecutionException {
        List<Reply> failed = Collections.synchronizedList(new ArrayList<>());
        AtomicInteger asked = new AtomicInteger();
        try (Opened opened = Opened.to(plan.aging())) {
            long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(Opened.PATIENCE_SECONDS);
            Callable<Void> caller = () -> {
                while (opened.connections() < plan.connections() && System.nanoTime() < until) {
                    Reply reply = opened.ask(plan.calls().get(0));
                    asked.incrementAndGet();
                    if (reply.code() != 0 && failed.size() < TOLD) {
                        failed.add(reply);
                    }
                    Thread.sleep(PAUSE);
                }
                return null;
            };
            for (Future<Void> each : threads.invokeAll(Collections.nCopies(CALLERS, caller))) {
                each.get();
            }
            return new Seen.Aged(asked.get(), failed, opened.connections());
        }
    }

    private static CallOptions within(double seconds) {
        return CallOptions.DEFAULT.withDeadlineAfter((long) (seconds * 1_000), TimeUnit.MILLISECONDS);
    }
}
