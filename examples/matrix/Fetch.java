import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Fetches http://NAME/ from several hosts at once by one Selector: java Fetch NAME... As fetch.c otherwise. */
final class Fetch {
    private final String name;
    private final ByteArrayOutputStream received = new ByteArrayOutputStream();

    private Fetch(String name) {
        this.name = name;
    }

    public static void main(String[] names) throws IOException {
        try (Selector selector = Selector.open()) {
            for (String name : names) {
                SocketChannel channel = SocketChannel.open();
                channel.configureBlocking(false);
                channel.connect(new InetSocketAddress(name, 80));
                channel.register(selector, SelectionKey.OP_CONNECT, new Fetch(name));
            }
            while (!selector.keys().isEmpty()) {
                selector.select();
                for (SelectionKey key : selector.selectedKeys()) {
                    ((Fetch) key.attachment()).ready(key);
                }
                selector.selectedKeys().clear();
                selector.selectNow(); // forgets the keys of closed channels
            }
        }
    }

    private void ready(SelectionKey key) throws IOException {
        SocketChannel channel = (SocketChannel) key.channel();
        try {
            if (key.isConnectable() && channel.finishConnect()) {
                String request = "GET / HTTP/1.0\r\nHost: " + name + "\r\n\r\n";
                channel.write(ByteBuffer.wrap(request.getBytes(StandardCharsets.US_ASCII)));
                key.interestOps(SelectionKey.OP_READ);
            } else if (key.isReadable()) {
                ByteBuffer buffer = ByteBuffer.allocate(1 << 14);
                int octets = channel.read(buffer);
                if (octets < 0) {
                    channel.close();
                    write();
                } else {
                    received.write(buffer.array(), 0, octets);
                }
            }
        } catch (IOException error) {
            System.out.println(name + ": " + error.getMessage());
            channel.close();
        }
    }

    private void write() throws IOException {
        byte[] all = received.toByteArray();
        int head = received.toString(StandardCharsets.ISO_8859_1).indexOf("\r\n\r\n") + 4;
        Files.write(Path.of(name), java.util.Arrays.copyOfRange(all, head, all.length));
    }
}
