package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.net.SocketTimeoutException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class CallTest {
    private static final String TAGS = "#model:gpt-4o,operation:chat";

    private final AtomicLong nanos = new AtomicLong(Long.MAX_VALUE);
    private final FakeConnections connections = new FakeConnections();
    private final Client client = client();

    private Client client() {
        Platform platform = new Platform();
        platform.environment = name -> null;
        platform.nanoTime = nanos::get;
        platform.opener = connections;
        return Client.builder().build(platform);
    }

    @AfterEach
    void close() {
        client.close();
    }

    private void passMillis(long millis) {
        nanos.addAndGet(TimeUnit.MILLISECONDS.toNanos(millis));
    }

    private String sent() {
        return String.join("\n\n", connections.sent);
    }

    @Test
    void aCallIsTimedAndCountedOnce() {
        Call call = client.start("gpt-4o", "chat");
        passMillis(1840);
        call.close();
        call.close();
        assertEquals("llm_request_total:1|c|" + TAGS + "\nllm_request_duration_seconds:1840|ms|" + TAGS, sent());
    }

    @Test
    void theFirstTokenIsTimedOnce() {
        Call call = client.start("gpt-4o", "chat");
        passMillis(300);
        call.firstToken();
        passMillis(300);
        call.firstToken().close();
        assertEquals("llm_request_total:1|c|" + TAGS + "\nllm_request_duration_seconds:600|ms|" + TAGS
                + "\nllm_time_to_first_token_seconds:300|ms|" + TAGS, sent());
    }

    @Test
    void whatTheAnswerSaysIsSentAlong() {
        try (Call call = client.start("gpt-4o", "chat")) {
            call.event().promptTokens(200).completionTokens(30).durationSeconds(0.5);
        }
        assertEquals("llm_request_total:1|c|" + TAGS + "\nllm_request_duration_seconds:500|ms|" + TAGS
                + "\nllm_tokens_total:230|c|#model:gpt-4o\nllm_prompt_tokens_total:200|c|#model:gpt-4o"
                + "\nllm_completion_tokens_total:30|c|#model:gpt-4o", sent());
    }

    @Test
    void aFailureIsClassified() {
        client.start("m", null).failed(new SocketTimeoutException()).close();
        assertEquals("llm_request_total:1|c|#model:m\nllm_request_duration_seconds:0|ms|#model:m"
                + "\nllm_error_total:1|c|#model:m,type:timeout", sent());
    }

    @Test
    void aFailureWithAStatusCodeIsClassified() {
        client.start("m", null).failed(new RuntimeException(), 429).close();
        assertEquals("llm_request_total:1|c|#model:m\nllm_request_duration_seconds:0|ms|#model:m"
                + "\nllm_error_total:1|c|#model:m,type:rate_limit\nllm_rate_limit_exceeded_total:1|c|#model:m", sent());
    }

    @Test
    void aFutureEndsACall() {
        CompletableFuture<String> future = new CompletableFuture<>();
        Call call = client.start("m", null);
        CompletableFuture<String> seen = future.whenComplete((answer, failure) -> call.failed(failure).close());
        assertEquals("", sent());
        passMillis(5);
        future.complete("answer");
        assertEquals("answer", seen.join());
        assertEquals("llm_request_total:1|c|#model:m\nllm_request_duration_seconds:5|ms|#model:m", sent());
    }

    @Test
    void aRequestReturnsWhatItsBodyReturns() {
        String answer = client.request("m", null, call -> {
            passMillis(7);
            call.event().tokens(3);
            return "answer";
        });
        assertEquals("answer", answer);
        assertEquals("llm_request_total:1|c|#model:m\nllm_request_duration_seconds:7|ms|#model:m"
                + "\nllm_tokens_total:3|c|#model:m", sent());
    }

    @Test
    void aRequestThrowsWhatItsBodyThrows() {
        SocketTimeoutException failure = new SocketTimeoutException();
        SocketTimeoutException seen = assertThrows(SocketTimeoutException.class, () -> client.request("m", null, call -> {
            throw failure;
        }));
        assertSame(failure, seen);
        assertEquals(0, seen.getSuppressed().length);
        assertEquals("llm_request_total:1|c|#model:m\nllm_request_duration_seconds:0|ms|#model:m"
                + "\nllm_error_total:1|c|#model:m,type:timeout", sent());
    }

    /** An Error whose methods throw: whatever is thrown is counted, and goes on as it was. */
    @Test
    void aRequestThrowsEvenWhatCannotBeClassified() {
        ClassifyTest.NastyError failure = new ClassifyTest.NastyError();
        assertSame(failure, assertThrows(ClassifyTest.NastyError.class, () -> client.request("m", null, call -> {
            throw failure;
        })));
        assertEquals(0, failure.getSuppressed().length);
        assertEquals("llm_request_total:1|c|#model:m\nllm_request_duration_seconds:0|ms|#model:m"
                + "\nllm_error_total:1|c|#model:m,type:other", sent());
    }

    @Test
    void aClockThatGoesBackIsARefusedDuration() {
        Call call = client.start("m", null);
        passMillis(-1);
        call.close();
        assertEquals("llm_request_total:1|c|#model:m", sent());
        assertEquals(1, client.stats().refusedFields());
    }
}
