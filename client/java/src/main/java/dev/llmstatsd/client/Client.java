package dev.llmstatsd.client;

import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Sends LLM calls to an llmstatsd daemon, or to any StatsD server, as datagrams.
 *
 * <p>No method throws an exception of its own, and none waits for a daemon or for a name server, except that
 * {@link #flush()} and {@link #close()} give the first lookup of a host name two seconds.
 * What could not be sent is counted in {@link #stats()}.
 * A client is safe for use by any number of threads. One is enough for a process.
 *
 * <h2>Settings</h2>
 *
 * <p>A setting of the {@link Builder} beats the environment, which beats the default.
 * {@code LLMSTATSD_DISABLE} ({@code 1}, {@code true}, {@code yes} or {@code on}) switches the client off.
 * The destination is the first of these that is there:
 *
 * <ul>
 *   <li>{@code LLMSTATSD_SOCKET}, the path of a unix datagram socket, which Java has none of:
 *       every datagram is counted in {@link Stats#droppedError()}
 *   <li>{@code LLMSTATSD_HOST} or {@code LLMSTATSD_PORT}
 *   <li>{@code DD_AGENT_HOST} or {@code DD_DOGSTATSD_PORT}
 *   <li>{@code STATSD_HOST} or {@code STATSD_PORT}
 *   <li>127.0.0.1 and 8125, which also stand for the missing half of a pair
 * </ul>
 *
 * <p>A port that is not a whole number from 1 to 65535 counts as missing in the environment.
 */
public final class Client implements AutoCloseable {
    private final Platform platform;
    private final Counters counters = new Counters();
    private final Encoders encoders = new Encoders();
    private final AtomicBoolean closed = new AtomicBoolean();
    private final Sender sender; // null when disabled
    private final ExitHook exitHook; // null when nothing is ever kept

    Client(Settings settings, Platform platform) {
        this.platform = platform;
        this.sender = settings.isDisabled(platform.environment)
                ? null
                : new Sender(settings, settings.destination(platform.environment), counters, platform);
        this.exitHook = sender != null && sender.keepsLines() ? new ExitHook(sender) : null;
    }

    /**
     * A client with the settings of the environment.
     *
     * @return a client that has opened no socket yet
     */
    public static Client fromEnvironment() {
        return builder().build();
    }

    /**
     * Starts a client with settings of its own.
     *
     * @return a builder with no setting
     */
    public static Builder builder() {
        return new Builder();
    }

    /**
     * Sends one finished call.
     *
     * @param event read before this method returns, and then free for use again; null is ignored
     */
    public void send(Event event) {
        if (event == null) {
            return;
        }
        counters.add(Count.EVENTS, 1);
        if (closed.get()) {
            counters.add(Count.CLOSED_EVENTS, 1);
        } else if (sender != null) {
            encodeAndSend(event);
        }
    }

    private void encodeAndSend(Event event) {
        Encoder encoder = encoders.borrow();
        try {
            encoder.encode(event);
            if (sender.send(encoder)) {
                counters.add(Count.REFUSED_FIELDS, Integer.bitCount(encoder.refused()));
            } else {
                counters.add(Count.CLOSED_EVENTS, 1);
            }
        } catch (RuntimeException e) {
            // For example an event that another thread changes at this moment.
            counters.add(Count.DROPPED_ERROR, 1);
        } finally {
            encoders.giveBack(encoder);
        }
    }

    /**
     * Starts the clock of a call, which is sent when it is closed.
     *
     * @param model the model that is called; null is missing
     * @param operation for example {@code chat}; null is missing
     * @return a call to close when the answer has ended
     */
    public Call start(String model, String operation) {
        return new Call(this, platform.nanoTime, model, operation);
    }

    /**
     * Times a call, sends it when it ends, and classifies what it throws.
     *
     * <pre>{@code
     * String answer = client.request("gpt-4o", "chat", call -> ask(prompt));
     * }</pre>
     *
     * @param <T> what the call returns
     * @param <X> what the call throws
     * @param model the model that is called; null is missing
     * @param operation for example {@code chat}; null is missing
     * @param body makes the call
     * @return what the body returns
     * @throws X what the body throws, unchanged; a body that is null throws what calling null throws
     */
    public <T, X extends Throwable> T request(String model, String operation, Body<T, X> body) throws X {
        try (Call call = start(model, operation)) {
            try {
                return body.run(call);
            } catch (Throwable failure) {
                call.failed(failure);
                throw failure;
            }
        }
    }

    /**
     * What became of the events so far.
     *
     * @return counts that stay as they are; another call returns later ones
     */
    public Stats stats() {
        return counters.stats();
    }

    /**
     * Sends what the buffer holds.
     * While a host name is looked up for the first time, it waits up to two seconds for the end of that.
     */
    public void flush() {
        if (sender != null) {
            sender.flush();
        }
    }

    /**
     * Flushes and closes the socket. Later events are counted in {@link Stats#closedEvents()}, and nothing is sent.
     */
    @Override
    public void close() {
        if (sender == null || closed.get()) {
            closed.set(true);
            return;
        }
        sender.close();
        if (closed.compareAndSet(false, true) && exitHook != null) {
            exitHook.remove();
        }
    }

    /**
     * A function that makes an LLM call.
     *
     * @param <T> what it returns
     * @param <X> what it throws
     */
    @FunctionalInterface
    public interface Body<T, X extends Throwable> {
        /**
         * Makes the call.
         *
         * @param call takes the tokens, the moment of the first token and the like
         * @return the answer
         * @throws X if the call fails
         */
        T run(Call call) throws X;
    }

    /** The settings of a {@link Client}: what is not given here is left to the environment and the defaults. */
    public static final class Builder {
        private final Settings settings = new Settings();

        private Builder() {}

        /**
         * Where the daemon is.
         *
         * @param host a name or an IP address; 127.0.0.1 if only a port is given; null and the empty text are not given
         * @return this builder
         */
        public Builder host(String host) {
            settings.host = host;
            return this;
        }

        /**
         * Where the daemon listens.
         *
         * @param port from 1 to 65535; 8125 if only a host is given;
         *     with any other, every datagram is counted in {@link Stats#droppedUnresolved()}
         * @return this builder
         */
        public Builder port(int port) {
            settings.port = port;
            return this;
        }

        /**
         * The path of a unix datagram socket, as in other languages' clients.
         * Java has no such sockets: every datagram is counted in {@link Stats#droppedError()}.
         *
         * @param path beats host and port; null and the empty text are not given
         * @return this builder
         */
        public Builder socket(String path) {
            settings.socket = path;
            return this;
        }

        /**
         * Whether events are only counted and nothing is sent.
         *
         * @param disabled beats {@code LLMSTATSD_DISABLE}
         * @return this builder
         */
        public Builder disabled(boolean disabled) {
            settings.disabled = disabled;
            return this;
        }

        /**
         * Whether several events may share a datagram.
         * A line then waits for 300 ms at most; {@link Client#flush}, {@link Client#close} and the end of the process
         * send what is there.
         *
         * @param buffered false unless given
         * @return this builder
         */
        public Builder buffered(boolean buffered) {
            settings.buffered = buffered;
            return this;
        }

        /**
         * The size of the longest datagram. A single line that is longer is sent in a datagram of its own.
         *
         * @param bytes 1432 unless given, and 65507 at most; without meaning if it is not positive
         * @return this builder
         */
        public Builder maxDatagramBytes(int bytes) {
            settings.maxDatagramBytes = bytes;
            return this;
        }

        /**
         * Makes a client, whatever the settings are: one that cannot send counts what it drops.
         *
         * @return a client that has opened no socket yet
         */
        public Client build() {
            return build(new Platform());
        }

        Client build(Platform platform) {
            return new Client(settings, platform);
        }
    }
}
