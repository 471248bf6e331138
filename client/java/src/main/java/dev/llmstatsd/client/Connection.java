package dev.llmstatsd.client;

import java.io.IOException;
import java.net.InetSocketAddress;

/** A socket that sends datagrams to one address and waits for nobody. Used by one thread at a time. */
interface Connection {
    /**
     * Sends one datagram.
     *
     * @return false if the socket's buffer has no room for it
     */
    boolean send(byte[] bytes, int from, int length) throws IOException;

    void close();

    /** Opens a connection to an address. */
    interface Opener {
        Connection open(InetSocketAddress to) throws IOException;
    }
}
