package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class EncoderTest {
    private static final int ALL_IN_ONE = 1 << 20;

    private static String lines(Event event) {
        return Vectors.datagrams(event, ALL_IN_ONE).get(0);
    }

    @Test
    void theLongestEventFits() {
        String label = "\ud83d\ude00".repeat(200);
        Event event = new Event().model(label).operation(label).error("invalid_response").rateLimited(true).fallback(true);
        event.durationSeconds(999999999.999999).loadDurationSeconds(999999999.999999);
        event.promptEvalDurationSeconds(999999999.999999).totalDurationSeconds(999999999.999999);
        event.timeToFirstTokenSeconds(999999999.999999).timePerOutputTokenSeconds(999999999.999999);
        event.tokens((1L << 53) - 1).promptTokens((1L << 53) - 1).completionTokens((1L << 53) - 1);
        event.cachedTokens((1L << 53) - 1).costDollars(999999.999999999);
        assertEquals(15, lines(event).split("\n").length);
    }

    @Test
    void aTextOfAMegabyteIsCut() {
        String huge = "x".repeat(1 << 20);
        String kept = "x".repeat(128);
        Event event = new Event().model(huge).operation(huge).error(huge);
        assertEquals(
                "llm_request_total:1|c|#model:" + kept + ",operation:" + kept
                        + "\nllm_error_total:1|c|#model:" + kept + ",type:other",
                lines(event));
    }

    @ParameterizedTest
    @CsvSource({"d800, _", "dfff, _", "d800 d800, __", "dc00 d800, __", "d83d 61, _a", "61 dc00, a_"})
    void aLoneSurrogateBecomesAnUnderscore(String units, String shown) {
        StringBuilder text = new StringBuilder();
        for (String unit : units.split(" ")) {
            text.append((char) Integer.parseInt(unit, 16));
        }
        assertEquals("llm_request_total:1|c|#model:" + shown, lines(new Event().model(text.toString())));
    }

    @Test
    void aPairOfSurrogatesIsNotCutInTwo() {
        String text = "a".repeat(127) + "\ud83d\ude00b";
        assertEquals("llm_request_total:1|c|#model:" + "a".repeat(127) + "\ud83d\ude00", lines(new Event().model(text)));
    }

    /** Whatever the label: one line, and UTF-8 as Java's own encoder writes it. */
    @Test
    void anyTextBecomesASafeLabel() {
        Random random = new Random(4);
        for (int i = 0; i < 20_000; i++) {
            StringBuilder text = new StringBuilder();
            for (int n = 1 + random.nextInt(140); n > 0; n--) {
                text.append((char) random.nextInt(1 << (1 + random.nextInt(16))));
            }
            assertEquals("llm_request_total:1|c|#operation:" + safe(text.toString()),
                    lines(new Event().operation(text.toString())));
        }
    }

    private static String safe(String text) {
        StringBuilder safe = new StringBuilder();
        text.codePoints().limit(128).forEach(c -> {
            boolean replaced = c < 0x20 || c == 0x7f || "|,#".indexOf(c) >= 0 || c >= 0xd800 && c <= 0xdfff;
            safe.appendCodePoint(replaced ? '_' : c);
        });
        return new String(safe.toString().getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8);
    }

    @Test
    void anyNumberOfTypeNumberIsTaken() {
        Event event = new Event().tokens(7).promptTokens(Integer.valueOf(5)).completionTokens(new AtomicLong(2))
                .cachedTokens(BigInteger.ONE).durationSeconds(Float.valueOf(0.5f));
        assertEquals("llm_request_total:1|c\nllm_request_duration_seconds:500|ms\nllm_tokens_total:7|c\n"
                + "llm_prompt_tokens_total:5|c\nllm_completion_tokens_total:2|c\nllm_cached_tokens_total:1|c", lines(event));
    }

    /** The only double whose multiplication and addition, fused, would round to another whole number. */
    @Test
    void multiplicationAndAdditionAreNotFused() {
        assertEquals("llm_request_total:1|c\nllm_cost_dollars_total:0.000000001|c",
                lines(new Event().costDollars(4.999999999999999e-10)));
    }

    @Test
    void aPartOfATokenIsRefused() {
        Event event = new Event().tokens(1.5).promptTokens(Double.NaN).completionTokens(Long.MAX_VALUE)
                .cachedTokens(BigInteger.TEN.pow(400));
        assertEquals("llm_request_total:1|c", lines(event));
        assertEquals(Set.of("tokens", "prompt_tokens", "completion_tokens", "cached_tokens"), Vectors.refused(event));
    }

    @Test
    void aNumberThatIsNullIsMissingAgain() {
        Integer unknown = null;
        Event event = new Event().tokens(5).tokens(unknown).costDollars(1).costDollars(null);
        assertEquals("llm_request_total:1|c", lines(event));
    }

    @Test
    void aClearedEventHasNoField() {
        Event event = new Event().model("m").operation("o").error("auth").rateLimited(true).fallback(true).tokens(5);
        assertEquals("llm_request_total:1|c", lines(event.clear()));
    }

    @Test
    void anEncoderStartsAnew() {
        Encoder encoder = new Encoder();
        encoder.encode(new Event().model("m").tokens(-1));
        encoder.encode(new Event());
        assertEquals("llm_request_total:1|c", new String(encoder.bytes(), 0, encoder.length(), StandardCharsets.UTF_8));
        assertEquals(0, encoder.refused());
    }

    @Test
    void aLineThatIsTooLongStandsAlone() {
        Event event = new Event().tokens(5).promptTokens(3);
        assertEquals(
                List.of("llm_request_total:1|c", "llm_tokens_total:5|c", "llm_prompt_tokens_total:3|c"),
                Vectors.datagrams(event, 1));
    }

    @Test
    void encodersAreBorrowedOnceEach() {
        Encoders encoders = new Encoders();
        Encoder first = encoders.borrow();
        Encoder second = encoders.borrow();
        assertTrue(first != second);
        encoders.giveBack(first);
        assertTrue(encoders.borrow() == first);
    }
}
