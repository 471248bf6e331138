package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.io.EOFException;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.net.ConnectException;
import java.net.SocketTimeoutException;
import java.net.UnknownHostException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

@SuppressWarnings("serial")
class ClassifyTest {
    /** As the SDKs of OpenAI and Anthropic have it. */
    public static class ServiceException extends RuntimeException {
        private final int status;
        private final String code;

        ServiceException(int status, String code) {
            this.status = status;
            this.code = code;
        }

        public int statusCode() {
            return status;
        }

        public Optional<String> code() {
            return Optional.ofNullable(code);
        }
    }

    public static class RateLimitException extends ServiceException {
        RateLimitException(String code) {
            super(429, code);
        }
    }

    public static class InternalServerException extends ServiceException {
        InternalServerException(int status) {
            super(status, null);
        }
    }

    /** As many have it: a class for each status, and the rest in the message. */
    public static class BadRequestException extends RuntimeException {
        BadRequestException(String message) {
            super(message);
        }
    }

    /** As Google's SDK has it. */
    public static class ApiException extends RuntimeException {
        public int code() {
            return 403;
        }
    }

    /** As Spring has it: an object around the number, and a class inside another. */
    public static class StatusException extends RuntimeException {
        public Status getStatusCode() {
            return Status.OVERLOADED;
        }

        public static final class TooManyRequests extends StatusException {}
    }

    public enum Status {
        OVERLOADED;

        public int value() {
            return 503;
        }
    }

    /** As Azure has it; the class of the response is not public, and the one above it is. */
    public static class ResponseException extends RuntimeException {
        public Response getResponse() {
            return new Response() {
                @Override
                public int getStatusCode() {
                    return 404;
                }
            };
        }
    }

    public abstract static class Response {
        public abstract int getStatusCode();
    }

    public static class NastyException extends RuntimeException {
        public int statusCode() {
            throw new IllegalStateException("no status");
        }

        @Override
        public String getMessage() {
            throw new IllegalStateException("no message");
        }

        @Override
        public synchronized Throwable getCause() {
            throw new IllegalStateException("no cause");
        }
    }

    /** Its methods throw what no method declares. */
    public static class NastyError extends Error {
        public int statusCode() {
            throw new AssertionError("no status");
        }

        @Override
        public String getMessage() {
            throw new AssertionError("no message");
        }

        @Override
        public synchronized Throwable getCause() {
            throw new AssertionError("no cause");
        }
    }

    static class JsonParseException extends IOException {}

    /** As java.net.http has it. */
    static class HttpTimeoutException extends IOException {}

    static class HttpConnectTimeoutException extends HttpTimeoutException {}

    static Stream<Arguments> failures() {
        return Stream.of(
                Arguments.of(new SocketTimeoutException(), "timeout"),
                Arguments.of(new HttpConnectTimeoutException(), "timeout"),
                Arguments.of(new TimeoutException(), "timeout"),
                Arguments.of(new InterruptedIOException("timeout"), "timeout"),
                Arguments.of(new ConnectException(), "connection"),
                Arguments.of(new UnknownHostException(), "connection"),
                Arguments.of(new EOFException(), "connection"),
                Arguments.of(new IOException(), "connection"),
                Arguments.of(new UncheckedIOException(new SocketTimeoutException()), "timeout"),
                Arguments.of(new JsonParseException(), "invalid_response"),
                Arguments.of(new CancellationException(), "cancelled"),
                Arguments.of(new InterruptedException(), "cancelled"),
                Arguments.of(new RateLimitException(null), "rate_limit"),
                Arguments.of(new RateLimitException("insufficient_quota"), "quota"),
                Arguments.of(new ServiceException(400, "context_length_exceeded"), "context_length"),
                Arguments.of(new ServiceException(400, "content_filter"), "content_filter"),
                Arguments.of(new ServiceException(400, null), "invalid_request"),
                Arguments.of(new ServiceException(0, "invalid_api_key"), "auth"),
                Arguments.of(new ServiceException(0, "billing_not_active"), "quota"),
                Arguments.of(new BadRequestException(null), "invalid_request"),
                Arguments.of(new BadRequestException("x".repeat(1 << 20)), "invalid_request"),
                Arguments.of(new BadRequestException("prompt is too long: 210000 tokens > 200000"), "context_length"),
                Arguments.of(new BadRequestException("Your credit balance is too low"), "quota"),
                Arguments.of(new BadRequestException("our Content Management Policy"), "content_filter"),
                Arguments.of(new RuntimeException("maximum context length"), "other"),
                Arguments.of(new InternalServerException(503), "overloaded"),
                Arguments.of(new InternalServerException(0), "server_error"),
                Arguments.of(new ApiException(), "permission"),
                Arguments.of(new StatusException(), "overloaded"),
                Arguments.of(new StatusException.TooManyRequests(), "rate_limit"),
                Arguments.of(new ResponseException(), "not_found"),
                Arguments.of(new ExecutionException(new RateLimitException(null)), "rate_limit"),
                Arguments.of(new CompletionException(new IOException(new ConnectException())), "connection"),
                Arguments.of(new RuntimeException(), "other"),
                Arguments.of(new Throwable(), "other"),
                Arguments.of(new OutOfMemoryError(), "other"),
                Arguments.of(new NastyException(), "other"),
                Arguments.of(new NastyError(), "other"),
                Arguments.of(null, "other"));
    }

    @ParameterizedTest(name = "{index} -> {1}")
    @MethodSource("failures")
    void aFailureHasAType(Throwable failure, String type) {
        assertEquals(type, Classify.of(failure));
    }

    @Test
    void aMessageThatBreaksIsAsGoodAsNone() {
        assertEquals("invalid_request", Classify.of(new NastyException(), 400));
        assertEquals("invalid_request", Classify.of(new NastyError(), 400));
    }

    /** The cases of client/errors.json, which the clients of all languages agree on. */
    private static List<JsonObject> shared(String part, int atLeast) {
        List<JsonObject> cases = Vectors.objects(Path.of("..", "errors.json"), part);
        assertTrue(cases.size() >= atLeast, part);
        return cases;
    }

    private static String typeOf(JsonObject each) {
        return each.get("type").isJsonNull() ? "other" : each.get("type").getAsString();
    }

    private static int statusOf(JsonObject each) {
        return each.has("status") ? each.get("status").getAsInt() : 0;
    }

    @Test
    void everySharedStatusCodeHasItsType() {
        for (JsonObject each : shared("statuses", 500)) {
            int status = statusOf(each);
            assertEquals(typeOf(each), Classify.of(new ServiceException(status, null)), each::toString);
            assertEquals(typeOf(each), Classify.of(null, status), each::toString);
            assertEquals(typeOf(each), Classify.of(new RuntimeException(), status), each::toString);
        }
    }

    @Test
    void everySharedCodeHasItsType() {
        List<JsonObject> cases = new ArrayList<>(shared("codes", 20));
        cases.addAll(shared("both", 50));
        for (JsonObject each : cases) {
            ServiceException failure = new ServiceException(statusOf(each), each.get("code").getAsString());
            assertEquals(typeOf(each), Classify.of(failure), each::toString);
            ServiceException withoutStatus = new ServiceException(0, each.get("code").getAsString());
            assertEquals(typeOf(each), Classify.of(withoutStatus, statusOf(each)), each::toString);
        }
    }

    @Test
    void everySharedMessageHasItsType() {
        for (JsonObject each : shared("messages", 15)) {
            RuntimeException failure = new RuntimeException(each.get("message").getAsString());
            assertEquals(typeOf(each), Classify.of(failure, statusOf(each)), each::toString);
        }
    }

    @Test
    void aNameSaysMoreThanAStatusCodeThatIsGiven() {
        assertEquals("timeout", Classify.of(new SocketTimeoutException(), 500));
        assertEquals("overloaded", Classify.of(new IOException(), 503));
        assertEquals("connection", Classify.of(new IOException(), 200));
        assertEquals("context_length", Classify.of(new RuntimeException("maximum context length is 8"), 400));
    }

    @Test
    void aRingOfCausesEnds() {
        RuntimeException first = new RuntimeException();
        first.initCause(new RuntimeException(first));
        assertEquals("other", Classify.of(first));
    }
}
