package grpcjava;

import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Arrays;
import java.util.List;

/** What came of a call; `details` is a google.rpc.Status, null where none was sent. */
record Reply(int code, String message, byte[] details, List<byte[]> answers) {
    private static final Metadata.Key<byte[]> DETAILS =
        Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

    static Reply of(Status status, Metadata trailers, List<byte[]> answers) {
        String message = status.getDescription() == null ? "" : status.getDescription();
        byte[] details = trailers == null ? null : trailers.get(DETAILS);
        return new Reply(status.getCode().value(), message, details, answers);
    }

    boolean isSameAs(Reply other) {
        return code == other.code
            && message.equals(other.message)
            && Arrays.equals(details, other.details)
            && Arrays.deepEquals(answers.toArray(), other.answers.toArray());
    }
}
