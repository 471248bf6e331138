package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import com.google.gson.JsonObject;
import java.util.List;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

class VectorsTest {
    /** Cases with a value that Java cannot express show as skipped. */
    @TestFactory
    Stream<DynamicTest> everyCaseGivesTheBytesOfTheContract() {
        return Vectors.cases().stream().map(each -> DynamicTest.dynamicTest(name(each), () -> check(each)));
    }

    private static String name(JsonObject vector) {
        return vector.get("name").getAsString();
    }

    private static void check(JsonObject vector) {
        assumeFalse(vector.has("untyped"), "a typed language cannot express it");
        Event event = Vectors.event(vector.getAsJsonObject("event"));
        int most = vector.has("max_datagram_bytes") ? vector.get("max_datagram_bytes").getAsInt() : 1432;
        assertEquals(Vectors.texts(vector.getAsJsonArray("datagrams")), Vectors.datagrams(event, most));
        List<String> refused = Vectors.texts(vector.getAsJsonArray("refused"));
        assertEquals(new TreeSet<>(refused), Vectors.refused(event));
    }

    @Test
    void theAcceptanceProgramSendsTheCaseOfItsName() {
        JsonObject vector = Vectors.cases().stream()
                .filter(each -> name(each).equals("a failed call with all fields"))
                .findFirst()
                .orElseThrow();
        assertEquals(
                Vectors.texts(vector.getAsJsonArray("datagrams")), Vectors.datagrams(Acceptance.failedCall(), 1432));
    }

    @Test
    void fewCasesAreSkipped() {
        List<JsonObject> cases = Vectors.cases();
        long skipped = cases.stream().filter(each -> each.has("untyped")).count();
        System.out.printf("%d vectors, %d of them skipped as untyped%n", cases.size(), skipped);
        assertTrue(cases.size() >= 80 && skipped * 5 < cases.size());
    }
}
