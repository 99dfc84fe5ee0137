package grpcjava;

import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.SocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** A channel that knows over which connections it was answered. */
final class Opened implements AutoCloseable {
    /** A bound for a busy machine. */
    static final long PATIENCE_SECONDS = 60;

    /** The shortest time between two keepalive pings that grpc-java allows itself. */
    private static final long PROBING_SECONDS = 10;

    private static final long PROBED_SECONDS = 5;

    private final ManagedChannel channel;
    private final Set<SocketAddress> connections = ConcurrentHashMap.newKeySet();

    private Opened(ManagedChannel channel) {
        this.channel = channel;
    }

    static Opened to(Plan.Endpoint endpoint) throws IOException {
        return new Opened(builder(endpoint).build());
    }

    /** One that sends keepalive pings, also while nothing is asked. */
    static Opened probing(Plan.Endpoint endpoint) throws IOException {
        ManagedChannelBuilder<?> builder = builder(endpoint)
            .keepAliveTime(PROBING_SECONDS, TimeUnit.SECONDS)
            .keepAliveTimeout(PROBED_SECONDS, TimeUnit.SECONDS)
            .keepAliveWithoutCalls(true);
        return new Opened(builder.build());
    }

    private static ManagedChannelBuilder<?> builder(Plan.Endpoint endpoint) throws IOException {
        return Grpc.newChannelBuilder(endpoint.address(), credentials(endpoint));
    }

    private static ChannelCredentials credentials(Plan.Endpoint endpoint) throws IOException {
        if (endpoint.authority().isEmpty()) {
            return InsecureChannelCredentials.create();
        }
        TlsChannelCredentials.Builder builder =
            TlsChannelCredentials.newBuilder().trustManager(new File(endpoint.authority()));
        if (!endpoint.certificate().isEmpty()) {
            builder.keyManager(new File(endpoint.certificate()), new File(endpoint.key()));
        }
        return builder.build();
    }

    int connections() {
        return connections.size();
    }

    Reply ask(Plan.Ask ask) {
        return begin(ask).join();
    }

    /** Makes a call; what comes of it is there later. */
    CompletableFuture<Reply> begin(Plan.Ask ask) {
        CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(PATIENCE_SECONDS, TimeUnit.SECONDS);
        ClientCall<byte[], byte[]> call =
            channel.newCall(method(ask), ask.gzip() ? options.withCompression("gzip") : options);
        Gathered gathered = new Gathered(call);
        if (ask.streaming()) {
            StreamObserver<byte[]> requests = ClientCalls.asyncBidiStreamingCall(call, gathered);
            requests.onNext(ask.request());
            requests.onCompleted();
        } else {
            ClientCalls.asyncUnaryCall(call, ask.request(), gathered);
        }
        return gathered.reply;
    }

    /** A call that lacks its message, and what is there when it ends. */
    record Lacking(ClientCall<byte[], byte[]> call, CompletableFuture<Reply> reply) {}

    Lacking beginWithoutMessage(Plan.Ask ask, CallOptions options) {
        ClientCall<byte[], byte[]> call = channel.newCall(method(ask), options);
        CompletableFuture<Reply> reply = new CompletableFuture<>();
        ClientCall.Listener<byte[]> listener = new ClientCall.Listener<>() {
            @Override
            public void onClose(Status status, Metadata trailers) {
                note(call);
                reply.complete(Reply.of(status, trailers, List.of()));
            }
        };
        call.start(listener, new Metadata());
        call.request(1);
        return new Lacking(call, reply);
    }

    private void note(ClientCall<?, ?> call) {
        SocketAddress own = call.getAttributes().get(Grpc.TRANSPORT_ATTR_LOCAL_ADDR);
        if (own != null) {
            connections.add(own);
        }
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    private static MethodDescriptor<byte[], byte[]> method(Plan.Ask ask) {
        MethodType type = ask.streaming() ? MethodType.BIDI_STREAMING : MethodType.UNARY;
        return MethodDescriptor.newBuilder(new AsTheyAre(), new AsTheyAre())
            .setType(type)
            .setFullMethodName(ask.method().substring(1))
            .build();
    }

    /** Gathers what a call brings until it ends. */
    private final class Gathered implements StreamObserver<byte[]> {
        private final ClientCall<?, ?> call;
        private final CompletableFuture<Reply> reply = new CompletableFuture<>();
        private final List<byte[]> answers = new ArrayList<>();

        Gathered(ClientCall<?, ?> call) {
            this.call = call;
        }

        @Override
        public void onNext(byte[] answer) {
            answers.add(answer);
        }

        @Override
        public void onError(Throwable thrown) {
            note(call);
            reply.complete(Reply.of(Status.fromThrowable(thrown), Status.trailersFromThrowable(thrown), answers));
        }

        @Override
        public void onCompleted() {
            note(call);
            reply.complete(Reply.of(Status.OK, null, answers));
        }
    }

    /** Leaves messages as they are. */
    private static final class AsTheyAre implements MethodDescriptor.Marshaller<byte[]> {
        @Override
        public InputStream stream(byte[] octets) {
            return new ByteArrayInputStream(octets);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException failed) {
                throw new UncheckedIOException(failed);
            }
        }
    }
}
