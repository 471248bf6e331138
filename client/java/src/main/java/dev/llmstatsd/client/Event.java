package dev.llmstatsd.client;

/**
 * One finished LLM call; failed ones count too.
 *
 * <p>Every field may be missing. A number out of its range is left out and counted in
 * {@link Stats#refusedFields()}, and the rest is sent.
 * Durations are seconds from 0 to 1e9, sent as whole microseconds.
 * Amounts of tokens are whole numbers from 0 to 2^53 - 1.
 * The setters that take a {@link Number} are for values that may be null, as the responses of many SDKs have them.
 *
 * <p>An event may be {@linkplain #clear() cleared} and used again as soon as {@link Client#send} has returned;
 * that way, nothing is allocated. It is not safe for use by several threads at once.
 */
public final class Event {
    private final double[] numbers = new double[Field.count()];
    private int given;
    private String model;
    private String operation;
    private String error;
    private boolean rateLimited;
    private boolean fallback;

    /** An event with every field missing. */
    public Event() {}

    /**
     * Makes every field missing again.
     *
     * @return this event
     */
    public Event clear() {
        given = 0;
        model = null;
        operation = null;
        error = null;
        rateLimited = false;
        fallback = false;
        return this;
    }

    /**
     * The model that was called.
     *
     * @param model its first 128 characters are kept; control characters, {@code |}, {@code ,}, {@code #}
     *     and lone surrogates become {@code _}; null and the empty text are missing
     * @return this event
     */
    public Event model(String model) {
        this.model = model;
        return this;
    }

    /**
     * What the call did.
     *
     * @param operation {@code chat}, {@code text_completion}, {@code embeddings} or a name of your own;
     *     it is made safe as {@link #model(String)} is
     * @return this event
     */
    public Event operation(String operation) {
        this.operation = operation;
        return this;
    }

    /**
     * The time from the request to the end of the answer, as the application saw it.
     *
     * @param seconds from 0 to 1e9
     * @return this event
     */
    public Event durationSeconds(double seconds) {
        return set(Field.DURATION_SECONDS, seconds);
    }

    /**
     * The time from the request to the end of the answer, as the application saw it.
     *
     * @param seconds from 0 to 1e9, or null if it is missing
     * @return this event
     */
    public Event durationSeconds(Number seconds) {
        return set(Field.DURATION_SECONDS, seconds);
    }

    /**
     * The provider's total, cached tokens included once.
     * If it is missing, the sum of prompt and completion is sent.
     *
     * @param tokens from 0 to 2^53 - 1
     * @return this event
     */
    public Event tokens(long tokens) {
        return set(Field.TOKENS, tokens);
    }

    /**
     * The provider's total, cached tokens included once.
     * If it is missing, the sum of prompt and completion is sent.
     *
     * @param tokens a whole number from 0 to 2^53 - 1, or null if it is missing
     * @return this event
     */
    public Event tokens(Number tokens) {
        return set(Field.TOKENS, tokens);
    }

    /**
     * The tokens of the prompt.
     *
     * @param tokens from 0 to 2^53 - 1
     * @return this event
     */
    public Event promptTokens(long tokens) {
        return set(Field.PROMPT_TOKENS, tokens);
    }

    /**
     * The tokens of the prompt.
     *
     * @param tokens a whole number from 0 to 2^53 - 1, or null if it is missing
     * @return this event
     */
    public Event promptTokens(Number tokens) {
        return set(Field.PROMPT_TOKENS, tokens);
    }

    /**
     * The tokens of the answer.
     *
     * @param tokens from 0 to 2^53 - 1
     * @return this event
     */
    public Event completionTokens(long tokens) {
        return set(Field.COMPLETION_TOKENS, tokens);
    }

    /**
     * The tokens of the answer.
     *
     * @param tokens a whole number from 0 to 2^53 - 1, or null if it is missing
     * @return this event
     */
    public Event completionTokens(Number tokens) {
        return set(Field.COMPLETION_TOKENS, tokens);
    }

    /**
     * The tokens of the prompt that came from the provider's cache.
     *
     * @param tokens from 0 to 2^53 - 1
     * @return this event
     */
    public Event cachedTokens(long tokens) {
        return set(Field.CACHED_TOKENS, tokens);
    }

    /**
     * The tokens of the prompt that came from the provider's cache.
     *
     * @param tokens a whole number from 0 to 2^53 - 1, or null if it is missing
     * @return this event
     */
    public Event cachedTokens(Number tokens) {
        return set(Field.CACHED_TOKENS, tokens);
    }

    /**
     * The price of the call.
     *
     * @param dollars from 0 to 1e6, sent as whole billionths
     * @return this event
     */
    public Event costDollars(double dollars) {
        return set(Field.COST_DOLLARS, dollars);
    }

    /**
     * The price of the call.
     *
     * @param dollars from 0 to 1e6, sent as whole billionths, or null if it is missing
     * @return this event
     */
    public Event costDollars(Number dollars) {
        return set(Field.COST_DOLLARS, dollars);
    }

    /**
     * The time that loading the model took, as the server says.
     *
     * @param seconds from 0 to 1e9
     * @return this event
     */
    public Event loadDurationSeconds(double seconds) {
        return set(Field.LOAD_DURATION_SECONDS, seconds);
    }

    /**
     * The time that loading the model took, as the server says.
     *
     * @param seconds from 0 to 1e9, or null if it is missing
     * @return this event
     */
    public Event loadDurationSeconds(Number seconds) {
        return set(Field.LOAD_DURATION_SECONDS, seconds);
    }

    /**
     * The time that evaluating the prompt took, as the server says.
     *
     * @param seconds from 0 to 1e9
     * @return this event
     */
    public Event promptEvalDurationSeconds(double seconds) {
        return set(Field.PROMPT_EVAL_DURATION_SECONDS, seconds);
    }

    /**
     * The time that evaluating the prompt took, as the server says.
     *
     * @param seconds from 0 to 1e9, or null if it is missing
     * @return this event
     */
    public Event promptEvalDurationSeconds(Number seconds) {
        return set(Field.PROMPT_EVAL_DURATION_SECONDS, seconds);
    }

    /**
     * The time of the whole call, as the server says.
     *
     * @param seconds from 0 to 1e9
     * @return this event
     */
    public Event totalDurationSeconds(double seconds) {
        return set(Field.TOTAL_DURATION_SECONDS, seconds);
    }

    /**
     * The time of the whole call, as the server says.
     *
     * @param seconds from 0 to 1e9, or null if it is missing
     * @return this event
     */
    public Event totalDurationSeconds(Number seconds) {
        return set(Field.TOTAL_DURATION_SECONDS, seconds);
    }

    /**
     * The time from the request to the first token of the answer.
     *
     * @param seconds from 0 to 1e9
     * @return this event
     */
    public Event timeToFirstTokenSeconds(double seconds) {
        return set(Field.TIME_TO_FIRST_TOKEN_SECONDS, seconds);
    }

    /**
     * The time from the request to the first token of the answer.
     *
     * @param seconds from 0 to 1e9, or null if it is missing
     * @return this event
     */
    public Event timeToFirstTokenSeconds(Number seconds) {
        return set(Field.TIME_TO_FIRST_TOKEN_SECONDS, seconds);
    }

    /**
     * The time between two tokens of the answer, on average.
     *
     * @param seconds from 0 to 1e9
     * @return this event
     */
    public Event timePerOutputTokenSeconds(double seconds) {
        return set(Field.TIME_PER_OUTPUT_TOKEN_SECONDS, seconds);
    }

    /**
     * The time between two tokens of the answer, on average.
     *
     * @param seconds from 0 to 1e9, or null if it is missing
     * @return this event
     */
    public Event timePerOutputTokenSeconds(Number seconds) {
        return set(Field.TIME_PER_OUTPUT_TOKEN_SECONDS, seconds);
    }

    /**
     * Why the call failed; {@link Classify} finds it from an exception.
     *
     * @param type {@code timeout}, {@code connection}, {@code rate_limit}, {@code quota}, {@code auth},
     *     {@code permission}, {@code not_found}, {@code context_length}, {@code content_filter},
     *     {@code invalid_request}, {@code overloaded}, {@code server_error}, {@code invalid_response},
     *     {@code cancelled} or {@code other}; any other text is sent as {@code other};
     *     null and the empty text stand for a call that succeeded
     * @return this event
     */
    public Event error(String type) {
        this.error = type;
        return this;
    }

    /**
     * The provider answered that there were too many requests; it follows from the error {@code rate_limit}.
     *
     * @param rateLimited false is missing
     * @return this event
     */
    public Event rateLimited(boolean rateLimited) {
        this.rateLimited = rateLimited;
        return this;
    }

    /**
     * The answer came from another model than the first one that was asked.
     *
     * @param fallback false is missing
     * @return this event
     */
    public Event fallback(boolean fallback) {
        this.fallback = fallback;
        return this;
    }

    private Event set(Field field, double value) {
        numbers[field.ordinal()] = value;
        given |= field.bit();
        return this;
    }

    /** As a double, even a whole number over 2^53 - 1 stays over it, so that it is refused. */
    private Event set(Field field, Number value) {
        if (value != null) {
            return set(field, value.doubleValue());
        }
        given &= ~field.bit();
        return this;
    }

    boolean has(Field field) {
        return (given & field.bit()) != 0;
    }

    double number(Field field) {
        return numbers[field.ordinal()];
    }

    String model() {
        return model;
    }

    String operation() {
        return operation;
    }

    String error() {
        return error;
    }

    boolean rateLimited() {
        return rateLimited;
    }

    boolean fallback() {
        return fallback;
    }
}
