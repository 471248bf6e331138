package dev.llmstatsd.client;

import java.lang.reflect.Modifier;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.regex.Pattern;

/**
 * Finds the type of error for {@link Event#error} from what an SDK, an HTTP client or the JDK throws.
 *
 * <p>No SDK is needed for it. In this order, the first answer counts:
 *
 * <ol>
 *   <li>the name of the class or of one above it, without package;
 *   <li>the status code of HTTP;
 *   <li>the code, such as insufficient_quota;
 *   <li>all this for the cause, and for its cause;
 *   <li>the name of a class that says little, such as IOException.
 * </ol>
 *
 * <p>What a name or a status code says, a code may make more exact: of a bad request too long a context, of a
 * rate limit an exceeded quota, of a failed server an overloaded one.
 * The message is read only to tell such from other bad requests and rate limits.
 *
 * <p>Codes are looked for in the public methods {@code statusCode}, {@code getStatusCode}, {@code code} and
 * {@code getCode}, and {@code getResponse().getStatusCode()}.
 * Where reflection is not possible, as in a native image, {@link #of(Throwable, int)} takes the status code.
 */
public final class Classify {
    /** A chain of causes may be a ring. */
    private static final int MOST_CAUSES = 8;

    private static final Map<String, String> NAMES = new HashMap<>();
    private static final Map<String, String> VAGUE_NAMES = new HashMap<>();
    private static final Map<String, String> CODES = new HashMap<>();

    /** What a code or a message may make of a type that says less. */
    private static final Map<String, Set<String>> REFINED = Map.of(
            ErrorTypes.INVALID_REQUEST,
            Set.of(ErrorTypes.CONTEXT_LENGTH, ErrorTypes.CONTENT_FILTER, ErrorTypes.QUOTA, ErrorTypes.AUTH,
                    ErrorTypes.PERMISSION, ErrorTypes.NOT_FOUND),
            ErrorTypes.RATE_LIMIT, Set.of(ErrorTypes.QUOTA),
            ErrorTypes.SERVER_ERROR, Set.of(ErrorTypes.OVERLOADED, ErrorTypes.TIMEOUT));

    private static final int MOST_MESSAGE_CHARACTERS = 2000;
    private static final List<Map.Entry<String, Pattern>> MESSAGES = List.of(
            Map.entry(
                    ErrorTypes.CONTEXT_LENGTH,
                    words("maximum context length|context_length_exceeded|prompt is too long|context window")),
            Map.entry(ErrorTypes.CONTENT_FILTER, words("content management policy|content_filter|content policy")),
            Map.entry(
                    ErrorTypes.QUOTA,
                    words("insufficient_quota|exceeded your current quota|credit balance is too low")),
            Map.entry(ErrorTypes.AUTH, words("api key not valid")));

    static {
        put(NAMES, ErrorTypes.TIMEOUT,
                "TimeoutException", "SocketTimeoutException", "InterruptedIOException", "HttpTimeoutException",
                "ConnectTimeoutException", "ReadTimeoutException", "WriteTimeoutException", "GatewayTimeout",
                "DeadlineExceededException", "ModelTimeoutException", "ApiCallTimeoutException",
                "ApiCallAttemptTimeoutException");
        put(NAMES, ErrorTypes.CONNECTION,
                "SocketException", "UnknownHostException", "UnresolvedAddressException", "SSLException",
                "ClosedChannelException", "UnresolvedModelServerException");
        put(NAMES, ErrorTypes.RATE_LIMIT,
                "RateLimitException", "TooManyRequestsException", "TooManyRequests", "ThrottlingException",
                "ResourceExhaustedException");
        put(NAMES, ErrorTypes.QUOTA, "QuotaExceededException", "ServiceQuotaExceededException");
        put(NAMES, ErrorTypes.AUTH,
                "AuthenticationException", "ClientAuthenticationException", "UnauthorizedException", "Unauthorized",
                "UnauthenticatedException", "UnrecognizedClientException", "ExpiredTokenException");
        put(NAMES, ErrorTypes.PERMISSION,
                "PermissionDeniedException", "AccessDeniedException", "ForbiddenException", "Forbidden");
        put(NAMES, ErrorTypes.NOT_FOUND,
                "NotFoundException", "ResourceNotFoundException", "ModelNotFoundException", "NotFound");
        put(NAMES, ErrorTypes.CONTEXT_LENGTH, "ContextLengthExceededException", "ContextWindowExceededException");
        put(NAMES, ErrorTypes.CONTENT_FILTER,
                "ContentFilteredException", "ContentFilterException", "ContentPolicyViolationException");
        put(NAMES, ErrorTypes.OVERLOADED,
                "OverloadedException", "ServiceUnavailableException", "ServiceUnavailable", "UnavailableException",
                "ModelNotReadyException");
        put(NAMES, ErrorTypes.INVALID_RESPONSE,
                "JsonProcessingException", "JsonParseException", "JsonSyntaxException", "JacksonException",
                "JSONException", "OpenAIInvalidDataException", "AnthropicInvalidDataException",
                "OutputParsingException");
        put(NAMES, ErrorTypes.CANCELLED,
                "CancellationException", "CancelledException", "InterruptedException", "ClosedByInterruptException",
                "AbortedException");

        put(VAGUE_NAMES, ErrorTypes.INVALID_REQUEST,
                "BadRequestException", "BadRequest", "InvalidRequestException", "InvalidArgumentException",
                "UnprocessableEntityException", "UnprocessableEntity", "UnprocessableContent", "ValidationException",
                "ClientException", "UnsupportedFeatureException");
        put(VAGUE_NAMES, ErrorTypes.SERVER_ERROR,
                "InternalServerException", "InternalServerError", "InternalException", "ServerException",
                "BadGateway", "ModelErrorException", "ModelStreamErrorException");
        put(VAGUE_NAMES, ErrorTypes.CONNECTION,
                "IOException", "UncheckedIOException", "OpenAIIoException", "AnthropicIoException",
                "ResourceAccessException", "WebClientRequestException");

        put(CODES, ErrorTypes.QUOTA, "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
                "billing_error");
        put(CODES, ErrorTypes.CONTEXT_LENGTH, "context_length_exceeded");
        put(CODES, ErrorTypes.CONTENT_FILTER, "content_filter", "content_policy_violation");
        put(CODES, ErrorTypes.TIMEOUT, "timeout_error");
        put(CODES, ErrorTypes.RATE_LIMIT, "rate_limit_exceeded", "rate_limit_error");
        put(CODES, ErrorTypes.AUTH, "invalid_api_key", "authentication_error");
        put(CODES, ErrorTypes.PERMISSION, "permission_error");
        put(CODES, ErrorTypes.NOT_FOUND, "model_not_found", "not_found_error");
        put(CODES, ErrorTypes.OVERLOADED, "overloaded_error");
        put(CODES, ErrorTypes.INVALID_REQUEST, "invalid_request_error", "request_too_large");
        put(CODES, ErrorTypes.SERVER_ERROR, "server_error", "api_error");
    }

    private Classify() {}

    private static Pattern words(String alternatives) {
        return Pattern.compile(alternatives, Pattern.CASE_INSENSITIVE);
    }

    private static void put(Map<String, String> map, String type, String... keys) {
        for (String key : keys) {
            map.put(key, type);
        }
    }

    /**
     * The type of error that a failure stands for.
     *
     * @param failure what a call threw
     * @return one of the texts that {@link Event#error} lists; {@code other} for null
     */
    public static String of(Throwable failure) {
        return first(failure, Classify::byLooks)
                .or(() -> first(failure, Classify::byVagueName))
                .orElse(ErrorTypes.OTHER);
    }

    /**
     * The type of error that a failure with a known status code stands for.
     *
     * @param failure what a call threw
     * @param statusCode of HTTP; any that means no failure is ignored
     * @return one of the texts that {@link Event#error} lists
     */
    public static String of(Throwable failure, int statusCode) {
        String name = failure == null ? null : byName(failure, NAMES);
        String type = name == null ? byStatus(statusCode) : name;
        return type == null ? of(failure) : refined(failure, type);
    }

    /** What a function says of a failure, or of the first of its causes that it says something of. */
    private static Optional<String> first(Throwable failure, Function<Throwable, String> classify) {
        Throwable cause = failure;
        for (int i = 0; cause != null && i < MOST_CAUSES; i++) {
            String type = classify.apply(cause);
            if (type != null) {
                return Optional.of(type);
            }
            cause = causeOf(cause);
        }
        return Optional.empty();
    }

    private static Throwable causeOf(Throwable failure) {
        try {
            return failure.getCause();
        } catch (Throwable e) {
            return null; // a method that an SDK has overridden, and what it throws is not the application's failure
        }
    }

    private static String byLooks(Throwable failure) {
        String type = byName(failure, NAMES);
        if (type == null) {
            type = byStatus(statusCode(failure));
        }
        return type == null ? CODES.get(code(failure)) : refined(failure, type);
    }

    /** A type that is not null, or what the code or the message of the failure makes of it. */
    private static String refined(Throwable failure, String type) {
        if (failure == null || !REFINED.containsKey(type)) {
            return type;
        }
        Set<String> allowed = REFINED.get(type);
        String exact = CODES.getOrDefault(code(failure), type);
        return allowed.contains(exact) ? exact : byMessage(failure, allowed).orElse(type);
    }

    private static Optional<String> byMessage(Throwable failure, Set<String> allowed) {
        String message = message(failure);
        return MESSAGES.stream()
                .filter(entry -> allowed.contains(entry.getKey()) && entry.getValue().matcher(message).find())
                .map(Map.Entry::getKey)
                .findFirst();
    }

    /** The beginning of it. */
    private static String message(Throwable failure) {
        try {
            String message = failure.getMessage();
            return message == null ? "" : message.substring(0, Math.min(message.length(), MOST_MESSAGE_CHARACTERS));
        } catch (Throwable e) {
            return ""; // a method that an SDK has overridden, and what it throws is not the application's failure
        }
    }

    private static String byName(Throwable failure, Map<String, String> names) {
        for (Class<?> type = failure.getClass(); type != Throwable.class; type = type.getSuperclass()) {
            String found = names.get(simpleName(type));
            if (found != null) {
                return found;
            }
        }
        return null;
    }

    private static String byVagueName(Throwable failure) {
        String type = byName(failure, VAGUE_NAMES);
        return type == null ? null : refined(failure, type);
    }

    /** Class.getSimpleName() throws an Error for some classes that are not written in Java. */
    private static String simpleName(Class<?> type) {
        String name = type.getName();
        return name.substring(Math.max(name.lastIndexOf('.'), name.lastIndexOf('$')) + 1);
    }

    /** Null for a code that means no failure; client/errors.json has them all. */
    private static String byStatus(int code) {
        switch (code) {
            case 401:
            case 407:
                return ErrorTypes.AUTH;
            case 402:
                return ErrorTypes.QUOTA;
            case 403:
            case 451: // a law forbids it
                return ErrorTypes.PERMISSION;
            case 404:
            case 410:
                return ErrorTypes.NOT_FOUND;
            case 408:
            case 504:
            case 522: // Cloudflare: the provider took too long to be connected to
            case 524: // Cloudflare: the provider took too long to answer
                return ErrorTypes.TIMEOUT;
            case 424: // Bedrock: the model failed
                return ErrorTypes.SERVER_ERROR;
            case 429:
                return ErrorTypes.RATE_LIMIT;
            case 499: // nginx: the client closed the request
                return ErrorTypes.CANCELLED;
            case 498: // Groq: the flex tier is full
            case 503:
            case 529: // Anthropic: overloaded
                return ErrorTypes.OVERLOADED;
            default:
                return byHundred(code / 100);
        }
    }

    private static String byHundred(int hundred) {
        if (hundred == 4) {
            return ErrorTypes.INVALID_REQUEST;
        }
        return hundred == 5 ? ErrorTypes.SERVER_ERROR : null;
    }

    /** Zero if there is none. */
    private static int statusCode(Throwable failure) {
        for (String method : new String[] {"statusCode", "getStatusCode", "code", "getCode"}) {
            int status = status(property(failure, method));
            if (status != 0) {
                return status;
            }
        }
        return status(property(property(failure, "getResponse"), "getStatusCode"));
    }

    /** Of a number, or of an object around one, such as Spring's HttpStatus. */
    private static int status(Object code) {
        Object value = code == null || code instanceof Number ? code : property(code, "value");
        return value instanceof Number ? ((Number) value).intValue() : 0;
    }

    /** For example {@code insufficient_quota}; the empty text if there is none. */
    private static String code(Throwable failure) {
        for (String method : new String[] {"code", "getCode"}) {
            Object code = property(failure, method);
            Object value = code instanceof Optional ? ((Optional<?>) code).orElse(null) : code;
            if (value instanceof String) {
                return (String) value;
            }
        }
        return "";
    }

    /** What a public method of a public class returns; null if there is none, or if it throws. */
    private static Object property(Object owner, String method) {
        for (Class<?> type = classOf(owner); type != null; type = type.getSuperclass()) {
            if (Modifier.isPublic(type.getModifiers())) {
                try {
                    return type.getMethod(method).invoke(owner);
                } catch (IllegalAccessException e) {
                    continue; // the class above may be open where this one is not
                } catch (ReflectiveOperationException | RuntimeException | LinkageError e) {
                    return null; // LinkageError: some method mentions a class that the application does without
                }
            }
        }
        return null;
    }

    private static Class<?> classOf(Object owner) {
        return owner == null ? null : owner.getClass();
    }
}
