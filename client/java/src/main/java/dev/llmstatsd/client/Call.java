package dev.llmstatsd.client;

import java.util.function.LongSupplier;

/**
 * An LLM call that is under way. It is sent once, when it is closed, and with the time that it took until then.
 *
 * <p>Its methods may be called by any thread, one at a time or not, as the answer of a stream arrives:
 *
 * <pre>{@code
 * Call call = client.start("gpt-4o", "chat");
 * future.whenComplete((answer, failure) -> call.failed(failure).close());
 * }</pre>
 */
public final class Call implements AutoCloseable {
    private static final double NANOS_PER_SECOND = 1e9;

    private final Client client;
    private final LongSupplier nanoTime;
    private final Event event = new Event();
    private final long startedAt;
    private boolean closed;

    Call(Client client, LongSupplier nanoTime, String model, String operation) {
        this.client = client;
        this.nanoTime = nanoTime;
        this.startedAt = nanoTime.getAsLong();
        event.model(model).operation(operation);
    }

    /**
     * What is sent when the call is closed: the place for tokens, cost and the rest.
     * A duration that is set there beats the one that is measured.
     *
     * @return an event that is not safe for use by several threads at once
     */
    public Event event() {
        return event;
    }

    /**
     * The first token has arrived. What is said after the first time is ignored.
     *
     * @return this call
     */
    public synchronized Call firstToken() {
        if (!event.has(Field.TIME_TO_FIRST_TOKEN_SECONDS)) {
            event.timeToFirstTokenSeconds(seconds());
        }
        return this;
    }

    /**
     * The call has failed.
     *
     * @param failure goes through {@link Classify#of(Throwable)}; null is ignored
     * @return this call
     */
    public synchronized Call failed(Throwable failure) {
        if (failure != null) {
            event.error(Classify.of(failure));
        }
        return this;
    }

    /**
     * The call has failed, and the status code is known.
     *
     * @param failure goes through {@link Classify#of(Throwable, int)}; null is known by its status code alone
     * @param statusCode of HTTP
     * @return this call
     */
    public synchronized Call failed(Throwable failure, int statusCode) {
        event.error(Classify.of(failure, statusCode));
        return this;
    }

    /** Sends the call, the first time. */
    @Override
    public synchronized void close() {
        if (closed) {
            return;
        }
        closed = true;
        if (!event.has(Field.DURATION_SECONDS)) {
            event.durationSeconds(seconds());
        }
        client.send(event);
    }

    private double seconds() {
        return (nanoTime.getAsLong() - startedAt) / NANOS_PER_SECOND;
    }
}
