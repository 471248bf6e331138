package dev.llmstatsd.client;

import java.io.IOException;
import java.net.Inet4Address;
import java.net.InetSocketAddress;
import java.net.StandardProtocolFamily;
import java.nio.ByteBuffer;
import java.nio.channels.DatagramChannel;

/** Opens UDP sockets, one after another, that share a buffer. */
final class Udp implements Connection.Opener {
    private static final int USUAL_BYTES = 2048;

    /** Outside the heap, for a channel copies any other buffer into one that it keeps for each thread. */
    private ByteBuffer datagram = ByteBuffer.allocateDirect(0);

    /** Connects, or else the kernel would tell nothing of a port where nobody listens. */
    @Override
    public Connection open(InetSocketAddress to) throws IOException {
        boolean ipv4 = to.getAddress() instanceof Inet4Address;
        DatagramChannel channel =
                DatagramChannel.open(ipv4 ? StandardProtocolFamily.INET : StandardProtocolFamily.INET6);
        try {
            channel.configureBlocking(false);
            channel.connect(to);
            return new Socket(channel);
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    private ByteBuffer datagram(byte[] bytes, int from, int length) {
        if (length > datagram.capacity()) {
            datagram = ByteBuffer.allocateDirect(Math.max(length, USUAL_BYTES));
        }
        datagram.clear();
        datagram.put(bytes, from, length);
        datagram.flip();
        return datagram;
    }

    private final class Socket implements Connection {
        private final DatagramChannel channel;

        Socket(DatagramChannel channel) {
            this.channel = channel;
        }

        @Override
        public boolean send(byte[] bytes, int from, int length) throws IOException {
            return channel.write(datagram(bytes, from, length)) == length;
        }

        @Override
        public void close() {
            try {
                channel.close();
            } catch (IOException e) {
                // Nothing is left to be done with it.
            }
        }
    }
}
