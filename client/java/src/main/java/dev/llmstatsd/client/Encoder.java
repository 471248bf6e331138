package dev.llmstatsd.client;

/**
 * Writes the lines of one event after another into the same bytes; without I/O, and without a clock.
 *
 * <p>The lines are joined by a line feed and do not end with one. The bytes of one event are those of every client
 * of this project: {@code client/vectors.json} is the contract.
 */
final class Encoder {
    /**
     * The longest event: 4 lines with both labels of 128 characters of 4 bytes, less than 1,110 bytes each;
     * 10 with the model alone, less than 600 bytes each; and one without labels.
     */
    private static final int MOST_BYTES = 4 * 1110 + 10 * 600 + 30;

    private static final int MOST_LABEL_CHARACTERS = 128;

    private static final byte[] REQUEST = Field.ascii("llm_request_total:1|c");
    private static final byte[] ERROR = Field.ascii("\nllm_error_total:1|c");
    private static final byte[] RATE_LIMIT_EXCEEDED = Field.ascii("\nllm_rate_limit_exceeded_total:1|c");
    private static final byte[] FALLBACK = Field.ascii("\nllm_fallback_total:1|c");
    private static final byte[] FIRST_TAG = Field.ascii("|#");
    private static final byte[] NEXT_TAG = Field.ascii(",");
    private static final byte[] MODEL = Field.ascii("model:");
    private static final byte[] OPERATION = Field.ascii("operation:");
    private static final byte[] TYPE = Field.ascii("type:");

    private final byte[] bytes = new byte[MOST_BYTES];
    private int length;
    private int refused;

    // The first line has all tags: "|#model:M" up to modelEnd, ",operation:O" up to tagsEnd.
    // The lines after it copy theirs from there.
    private final int tagsStart = REQUEST.length;
    private int modelEnd;
    private int tagsEnd;

    /** Those of the last event, up to {@link #length()}. */
    byte[] bytes() {
        return bytes;
    }

    int length() {
        return length;
    }

    /** The fields of the last event that were left out, as {@link Field#bit() bits}. */
    int refused() {
        return refused;
    }

    void encode(Event event) {
        length = 0;
        refused = 0;
        request(event.model(), event.operation());
        for (int i = 0; i < Field.count(); i++) {
            line(event, Field.at(i));
        }
        failure(ErrorTypes.bytes(event.error()), event.rateLimited());
        if (event.fallback()) {
            write(FALLBACK);
        }
    }

    /**
     * Where the datagram ends that starts at from: at the end of a line, after at most so many bytes.
     * A line that is longer stands alone.
     */
    int cut(int from, int mostBytes) {
        if (length - from <= mostBytes) {
            return length;
        }
        int end = from + mostBytes;
        while (end > from && bytes[end] != '\n') {
            end--;
        }
        if (end > from) {
            return end;
        }
        while (end < length && bytes[end] != '\n') {
            end++;
        }
        return end;
    }

    private void request(String model, String operation) {
        write(REQUEST);
        if (model != null && !model.isEmpty()) {
            write(FIRST_TAG);
            write(MODEL);
            label(model);
        }
        modelEnd = length;
        if (operation != null && !operation.isEmpty()) {
            tagAfterModel();
            write(OPERATION);
            label(operation);
        }
        tagsEnd = length;
    }

    private void line(Event event, Field field) {
        if (accepts(event, field)) {
            line(field, field.unit.scaled(event.number(field)));
            return;
        }
        if (event.has(field)) {
            refused |= field.bit();
        }
        if (field == Field.TOKENS) {
            sumOfTokens(event);
        }
    }

    private static boolean accepts(Event event, Field field) {
        return event.has(field) && field.unit.takes(event.number(field));
    }

    private void line(Field field, long scaled) {
        write(field.start);
        decimal(scaled, field.unit.scale);
        write(field.unit.type);
        copy(field.byOperation ? tagsEnd : modelEnd);
    }

    private void sumOfTokens(Event event) {
        boolean prompt = accepts(event, Field.PROMPT_TOKENS);
        boolean completion = accepts(event, Field.COMPLETION_TOKENS);
        double sum = (prompt ? event.number(Field.PROMPT_TOKENS) : 0)
                + (completion ? event.number(Field.COMPLETION_TOKENS) : 0);
        if ((prompt || completion) && Field.TOKENS.unit.takes(sum)) {
            line(Field.TOKENS, (long) sum);
        }
    }

    private void failure(byte[] type, boolean rateLimited) {
        byte[] shown = type == null && rateLimited ? ErrorTypes.RATE_LIMIT_BYTES : type;
        if (shown != null) {
            write(ERROR);
            copy(modelEnd);
            tagAfterModel();
            write(TYPE);
            write(shown);
        }
        if (rateLimited || shown == ErrorTypes.RATE_LIMIT_BYTES) {
            write(RATE_LIMIT_EXCEEDED);
            copy(modelEnd);
        }
    }

    private void tagAfterModel() {
        write(modelEnd == tagsStart ? FIRST_TAG : NEXT_TAG);
    }

    private void write(byte[] text) {
        System.arraycopy(text, 0, bytes, length, text.length);
        length += text.length;
    }

    /** Writes the tags of the first line, up to an end. */
    private void copy(int end) {
        System.arraycopy(bytes, tagsStart, bytes, length, end - tagsStart);
        length += end - tagsStart;
    }

    /** Writes parts / scale without trailing zeros; the scale is a power of ten. */
    private void decimal(long parts, long scale) {
        whole(parts / scale);
        long rest = parts % scale;
        if (rest == 0) {
            return;
        }
        bytes[length++] = '.';
        for (long digit = scale / 10; rest > 0; digit /= 10) {
            bytes[length++] = (byte) ('0' + rest / digit);
            rest %= digit;
        }
    }

    private void whole(long number) {
        int digits = 1;
        for (long rest = number; rest >= 10; rest /= 10) {
            digits++;
        }
        length += digits;
        long rest = number;
        for (int at = length - 1; at >= length - digits; at--) {
            bytes[at] = (byte) ('0' + rest % 10);
            rest /= 10;
        }
    }

    private void label(String text) {
        int at = 0;
        for (int n = 0; n < MOST_LABEL_CHARACTERS && at < text.length(); n++) {
            int character = text.codePointAt(at);
            at += Character.charCount(character);
            if (character < 0x80) {
                bytes[length++] = safe((byte) character);
            } else {
                utf8(character);
            }
        }
    }

    private static byte safe(byte c) {
        return c < ' ' || c == 0x7f || c == '|' || c == ',' || c == '#' ? (byte) '_' : c;
    }

    private void utf8(int character) {
        if (character < 0x800) {
            bytes[length++] = (byte) (0xc0 | character >> 6);
        } else if (character >= Character.MIN_SURROGATE && character <= Character.MAX_SURROGATE) {
            bytes[length++] = '_'; // without its other half it is no character
            return;
        } else if (character < 0x10000) {
            bytes[length++] = (byte) (0xe0 | character >> 12);
            bytes[length++] = continuation(character >> 6);
        } else {
            bytes[length++] = (byte) (0xf0 | character >> 18);
            bytes[length++] = continuation(character >> 12);
            bytes[length++] = continuation(character >> 6);
        }
        bytes[length++] = continuation(character);
    }

    private static byte continuation(int bits) {
        return (byte) (0x80 | bits & 0x3f);
    }
}
