package dev.llmstatsd.client;

import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The closed set of the label {@code type} of {@code llm_error_total}. */
final class ErrorTypes {
    static final String TIMEOUT = "timeout";
    static final String CONNECTION = "connection";
    static final String RATE_LIMIT = "rate_limit";
    static final String QUOTA = "quota";
    static final String AUTH = "auth";
    static final String PERMISSION = "permission";
    static final String NOT_FOUND = "not_found";
    static final String CONTEXT_LENGTH = "context_length";
    static final String CONTENT_FILTER = "content_filter";
    static final String INVALID_REQUEST = "invalid_request";
    static final String OVERLOADED = "overloaded";
    static final String SERVER_ERROR = "server_error";
    static final String INVALID_RESPONSE = "invalid_response";
    static final String CANCELLED = "cancelled";
    static final String OTHER = "other";

    static final byte[] RATE_LIMIT_BYTES = Field.ascii(RATE_LIMIT);
    private static final byte[] OTHER_BYTES = Field.ascii(OTHER);

    /** The length of the longest. */
    private static final int MOST_CHARACTERS = INVALID_RESPONSE.length();

    private static final Map<String, byte[]> BYTES = bytes();

    private ErrorTypes() {}

    private static Map<String, byte[]> bytes() {
        Map<String, byte[]> bytes = Stream.of(
                        TIMEOUT, CONNECTION, QUOTA, AUTH, PERMISSION, NOT_FOUND, CONTEXT_LENGTH, CONTENT_FILTER,
                        INVALID_REQUEST, OVERLOADED, SERVER_ERROR, INVALID_RESPONSE, CANCELLED)
                .collect(Collectors.toMap(Function.identity(), Field::ascii));
        bytes.put(RATE_LIMIT, RATE_LIMIT_BYTES);
        return bytes;
    }

    /** Those of {@code other} for a text that is not in the set; null for null and the empty text. */
    static byte[] bytes(String type) {
        if (type == null || type.isEmpty()) {
            return null;
        }
        // A longer text is not looked up, for that would read all of it.
        return type.length() > MOST_CHARACTERS ? OTHER_BYTES : BYTES.getOrDefault(type, OTHER_BYTES);
    }
}
