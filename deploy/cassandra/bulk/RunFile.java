package bulk;

import java.io.BufferedInputStream;
import java.io.Closeable;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.zip.CRC32;

/** Reads a run file, block by block. How it lies stands in resolver/store/cassandra/runs.py, which writes it. */
final class RunFile implements Closeable {
    private static final byte[] MAGIC = {'T', 'N', 'R', 'U', 'N', 'S', 0, 1};
    private static final int CHECKED_HEADER = 16;

    private final Path path;
    private final DataInputStream in;

    /** The bytes of the present block; valid until the next one is read. */
    byte[] octets = {};

    /** Of the present block: the journal index of its rows, and how many rows there are. */
    long index;

    int rows;

    /** Where the bytes lie that end every body of the block. */
    int tailAt;

    int tailLength;

    private ByteBuffer payload = ByteBuffer.wrap(octets);
    private int publicLengthsAt;
    private int fullLengthsAt;
    private int newAt;
    private int keyLengthsAt;

    /** Of the present row: where its parts lie. The bodies are without the tail. */
    int keyAt;

    int keyLength;
    int publicAt;
    int publicLength;
    int fullAt;
    int fullLength;
    boolean isNew;

    private int row;

    RunFile(Path path) throws IOException {
        this.path = path;
        in = new DataInputStream(new BufferedInputStream(Files.newInputStream(path), 1 << 20));
        if (!Arrays.equals(in.readNBytes(MAGIC.length), MAGIC)) throw new IOException(path + " is no run file");
    }

    /** Go to the next block; false at the end of the file. */
    boolean nextBlock() throws IOException {
        byte[] header = in.readNBytes(8 + CHECKED_HEADER);
        if (header.length == 0) return false;
        if (header.length < 8 + CHECKED_HEADER) throw new EOFException(path + " is cut off");
        ByteBuffer fields = ByteBuffer.wrap(header);
        int length = fields.getInt(0);
        if (octets.length < length) payload = ByteBuffer.wrap(octets = new byte[length]);
        if (in.readNBytes(octets, 0, length) < length) throw new EOFException(path + " is cut off");
        CRC32 crc = new CRC32();
        crc.update(header, 8, CHECKED_HEADER);
        crc.update(octets, 0, length);
        if ((int) crc.getValue() != fields.getInt(4)) throw new IOException(path + " is damaged: a checksum differs");
        index = fields.getLong(8);
        rows = fields.getInt(16);
        layOut(fields.getInt(20));
        return true;
    }

    private void layOut(int prefixes) {
        tailLength = payload.get(0);
        tailAt = 1;
        int at = tailAt + tailLength;
        for (int i = 0; i < prefixes; i++) at += 6 + (payload.getShort(at) & 0xFFFF);
        keyLengthsAt = at;
        publicLengthsAt = keyLengthsAt + 2 * rows;
        fullLengthsAt = publicLengthsAt + 4 * rows;
        newAt = fullLengthsAt + 4 * rows;
        keyAt = newAt + rows;
        keyLength = 0;
        publicAt = keyAt;
        for (int i = 0; i < rows; i++) publicAt += payload.getShort(keyLengthsAt + 2 * i) & 0xFFFF;
        publicLength = 0;
        fullAt = publicAt;
        for (int i = 0; i < rows; i++) fullAt += payload.getInt(publicLengthsAt + 4 * i);
        fullLength = 0;
        row = -1;
    }

    /** Go to the next row of the block; false behind the last. */
    boolean nextRow() {
        if (++row == rows) return false;
        keyAt += keyLength;
        keyLength = payload.getShort(keyLengthsAt + 2 * row) & 0xFFFF;
        publicAt += publicLength;
        publicLength = payload.getInt(publicLengthsAt + 4 * row);
        fullAt += fullLength;
        fullLength = payload.getInt(fullLengthsAt + 4 * row);
        isNew = payload.get(newAt + row) != 0;
        return true;
    }

    @Override
    public void close() throws IOException {
        in.close();
    }
}
