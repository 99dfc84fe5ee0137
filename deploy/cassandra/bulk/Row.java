package bulk;

import java.nio.ByteBuffer;

/**
 * A row behind the sort: its group, its order inside the group, and its bytes.
 *
 * <p>The bytes are the key's length (two bytes), the key, the journal index (eight bytes), and what the table makes of
 * the rest.
 */
record Row(int group, long order, byte[] octets) {
    /** What stands in front of the rest, beside the key. */
    static final int AROUND_KEY = 2 + 8;

    int keyLength() {
        return (octets[0] & 0xFF) << 8 | octets[1] & 0xFF;
    }

    ByteBuffer key() {
        return ByteBuffer.wrap(octets, 2, keyLength()).slice();
    }

    long index() {
        return ByteBuffer.wrap(octets).getLong(2 + keyLength());
    }

    /** The bytes behind key and index, to be read. */
    ByteBuffer rest() {
        int at = keyLength() + AROUND_KEY;
        return ByteBuffer.wrap(octets, at, octets.length - at);
    }

    boolean isSameAs(Row other) {
        int end = 2 + keyLength();
        return group == other.group
            && order == other.order
            && java.util.Arrays.equals(octets, 0, end, other.octets, 0, Math.min(end, other.octets.length));
    }
}
