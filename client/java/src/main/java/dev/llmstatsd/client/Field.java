package dev.llmstatsd.client;

import java.nio.charset.StandardCharsets;

/** The numbers of an {@link Event}, in the order of their lines. */
enum Field {
    DURATION_SECONDS("llm_request_duration_seconds", Unit.SECONDS, true),
    TOKENS("llm_tokens_total", Unit.TOKENS, false),
    PROMPT_TOKENS("llm_prompt_tokens_total", Unit.TOKENS, false),
    COMPLETION_TOKENS("llm_completion_tokens_total", Unit.TOKENS, false),
    CACHED_TOKENS("llm_cached_tokens_total", Unit.TOKENS, false),
    COST_DOLLARS("llm_cost_dollars_total", Unit.DOLLARS, false),
    LOAD_DURATION_SECONDS("llm_model_load_duration_seconds", Unit.SECONDS, false),
    PROMPT_EVAL_DURATION_SECONDS("llm_prompt_eval_duration_seconds", Unit.SECONDS, false),
    TOTAL_DURATION_SECONDS("llm_total_duration_seconds", Unit.SECONDS, false),
    TIME_TO_FIRST_TOKEN_SECONDS("llm_time_to_first_token_seconds", Unit.SECONDS, true),
    TIME_PER_OUTPUT_TOKEN_SECONDS("llm_time_per_output_token_seconds", Unit.SECONDS, true);

    private static final Field[] ALL = values();

    /** The end of the line before, and this one's up to the value. */
    final byte[] start;

    final Unit unit;

    /** Whether the line has the operation beside the model. */
    final boolean byOperation;

    Field(String series, Unit unit, boolean byOperation) {
        this.start = ascii("\n" + series + ":");
        this.unit = unit;
        this.byOperation = byOperation;
    }

    /** Spares the copy that values() makes for every event. */
    static Field at(int ordinal) {
        return ALL[ordinal];
    }

    static int count() {
        return ALL.length;
    }

    /** This field in a set of fields that is kept as bits. */
    int bit() {
        return 1 << ordinal();
    }

    static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    /** What a number may be, and how it is written. */
    enum Unit {
        /** Written in milliseconds, which is what {@code ms} means to every StatsD server. */
        SECONDS(1e9, 1e6, 1000, "|ms"),
        /** Up to 2^53 - 1, the last whole number before a double skips one. */
        TOKENS(9007199254740991.0, 1, 1, "|c"),
        DOLLARS(1e6, 1e9, 1_000_000_000, "|c");

        private final double most;
        private final double parts;

        /** How many of the parts that {@link #scaled} returns make 1 in the line. */
        final long scale;

        final byte[] type;

        Unit(double most, double parts, long scale, String type) {
            this.most = most;
            this.parts = parts;
            this.scale = scale;
            this.type = ascii(type);
        }

        /** False for NaN too, and for a part of a token. */
        boolean takes(double value) {
            return value >= 0 && value <= most && (this != TOKENS || value == Math.floor(value));
        }

        /** A value that this unit takes, in microseconds, tokens or billionths of a dollar, half of one rounded up. */
        long scaled(double value) {
            return this == TOKENS ? (long) value : (long) Math.floor(value * parts + 0.5);
        }
    }
}
