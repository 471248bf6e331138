package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Clients that send over real sockets on loopback. */
class ClientTest {
    private static final Event CALL = new Event().model("gpt-4o").operation("chat").tokens(230);
    private static final String LINES =
            "llm_request_total:1|c|#model:gpt-4o,operation:chat\nllm_tokens_total:230|c|#model:gpt-4o";

    @Test
    void oneCallIsOneDatagram() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().build()) {
            client.send(CALL);
            assertEquals(LINES, daemon.next());
            assertNull(daemon.nextIfAny());
            assertEquals(1, client.stats().events());
            assertEquals(1, client.stats().sentDatagrams());
            assertEquals(LINES.length(), client.stats().sentBytes());
        }
    }

    @Test
    void theEnvironmentDecidesTheDestination() {
        try (Daemon daemon = new Daemon()) {
            Platform platform = new Platform();
            platform.environment = Map.of("LLMSTATSD_PORT", Integer.toString(daemon.port()))::get;
            try (Client client = Client.builder().build(platform)) {
                client.send(CALL);
                assertEquals(LINES, daemon.next());
            }
        }
    }

    @Test
    void aNameIsLookedUpOffTheWayOfTheCall() {
        try (Daemon daemon = new Daemon();
                Client client = Client.builder().disabled(false).host("localhost").port(daemon.port()).build()) {
            client.send(CALL);
            assertEquals(LINES, daemon.next());
        }
    }

    @Test
    void anEventOverOneDatagramIsCut() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().maxDatagramBytes(60).build()) {
            client.send(CALL);
            assertEquals(LINES, daemon.next() + "\n" + daemon.next());
            assertEquals(2, client.stats().sentDatagrams());
        }
    }

    @Test
    void aRefusedFieldIsCountedAndTheRestIsSent() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().build()) {
            client.send(new Event().durationSeconds(Double.NaN).tokens(-1).costDollars(-0.5).promptTokens(7));
            assertEquals("llm_request_total:1|c\nllm_tokens_total:7|c\nllm_prompt_tokens_total:7|c", daemon.next());
            assertEquals(3, client.stats().refusedFields());
        }
    }

    @Test
    void nullIsIgnored() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().build()) {
            client.send(null);
            client.start(null, null).failed(null).close();
            assertTrue(daemon.next().startsWith("llm_request_total:1|c\n"));
            assertEquals(1, client.stats().events());
        }
        Client.builder().host(null).socket(null).buffered(true).maxDatagramBytes(-1).build().close();
    }

    @Test
    void aClosedClientCountsWhatComesLater() {
        try (Daemon daemon = new Daemon()) {
            Client client = daemon.client().build();
            client.close();
            client.close();
            client.send(CALL);
            client.flush();
            assertNull(daemon.nextIfAny());
            assertEquals(1, client.stats().events());
            assertEquals(1, client.stats().closedEvents());
        }
    }

    @Test
    void aDisabledClientOnlyCounts() {
        Platform platform = new Platform();
        platform.opener = to -> {
            throw new AssertionError("a socket is opened");
        };
        Client client = Client.builder().disabled(true).buffered(true).build(platform);
        client.send(CALL);
        client.flush();
        client.close();
        client.send(CALL);
        assertEquals(2, client.stats().events());
        assertEquals(1, client.stats().closedEvents());
        assertEquals(0, client.stats().sentDatagrams());
    }

    /** The kernel tells of a datagram that nobody took with the next one, which is sent again and counts as sent. */
    @Test
    void nobodyListeningIsNoTrouble() {
        int port;
        try (Daemon daemon = new Daemon()) {
            port = daemon.port();
        }
        try (Client client = Client.builder().disabled(false).port(port).build()) {
            for (int i = 0; i < 100; i++) {
                client.send(CALL);
            }
            assertEquals(100, client.stats().sentDatagrams() + client.stats().droppedUnreachable());
            assertEquals(0, client.stats().droppedError());
            try (Daemon daemon = new Daemon(port)) {
                client.send(CALL);
                assertEquals(LINES, daemon.next());
            }
        }
    }

    @Test
    void theLongestDatagramIsTheLongestOfUdp() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().maxDatagramBytes(Integer.MAX_VALUE).buffered(true).build()) {
            for (int i = 0; i < 2000; i++) {
                client.send(CALL);
            }
            client.flush();
            assertTrue(daemon.next().length() > 60_000);
            assertEquals(0, client.stats().droppedError());
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void anInterruptedThreadSendsAndHarmsNobody(boolean buffered) throws InterruptedException {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().buffered(buffered).build()) {
            client.send(CALL);
            client.flush();
            assertEquals(LINES, daemon.next());
            List<Boolean> interrupted = new ArrayList<>();
            Thread thread = new Thread(() -> {
                Thread.currentThread().interrupt();
                client.send(CALL);
                client.flush();
                interrupted.add(Thread.currentThread().isInterrupted());
            });
            thread.start();
            thread.join();
            assertEquals(LINES, daemon.next());
            client.send(CALL);
            client.flush();
            assertEquals(LINES, daemon.next());
            assertEquals(List.of(true), interrupted);
            assertEquals(0, client.stats().droppedError());
        }
    }

    @Test
    void interruptsAtAnyMomentLoseNothing() throws InterruptedException {
        int calls = 20_000;
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().build()) {
            Thread thread = new Thread(() -> {
                for (int i = 0; i < calls; i++) {
                    client.send(CALL);
                    Thread.interrupted();
                }
            });
            thread.start();
            while (thread.isAlive()) {
                thread.interrupt();
            }
            thread.join();
            assertEquals(LINES, daemon.next());
            assertEquals(calls, client.stats().sentDatagrams());
        }
    }

    @Test
    void theFirstEventOfAnInterruptedThreadArrives() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().build()) {
            Thread.currentThread().interrupt();
            client.send(CALL);
            assertTrue(Thread.interrupted());
            assertEquals(LINES, daemon.next());
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void threadsShareAClientAndNothingIsMixedUp(boolean buffered) throws InterruptedException {
        int threads = 8;
        int calls = 2000;
        JsonObject fields = Vectors.cases().get(3).getAsJsonObject("event");
        Client client;
        try (Daemon daemon = new Daemon()) {
            client = daemon.client().buffered(buffered).build();
            List<Thread> all = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                Event event = Vectors.event(fields);
                Thread thread = new Thread(() -> {
                    for (int n = 0; n < calls; n++) {
                        client.send(event);
                    }
                });
                thread.start();
                all.add(thread);
            }
            String lines = Vectors.datagrams(Vectors.event(fields), 1432).get(0);
            for (int i = 0; i < 100; i++) {
                assertEquals("", daemon.next().replace(lines, "").strip());
            }
            for (Thread thread : all) {
                thread.join();
            }
            client.close();
            assertEquals(threads * calls, client.stats().events());
            long bytes = (long) threads * calls * (lines.length() + 1) - client.stats().sentDatagrams();
            assertEquals(bytes, client.stats().sentBytes());
        }
    }

    @Test
    void statsHaveTheNamesOfAllClients() {
        List<String> names = List.of("events", "refused_fields", "closed_events", "sent_datagrams", "sent_bytes",
                "dropped_full", "dropped_unresolved", "dropped_unreachable", "dropped_error");
        try (Client client = Client.fromEnvironment()) {
            assertEquals(names, new ArrayList<>(client.stats().asMap().keySet()));
        }
    }

    @Test
    void statsThatWereReadDoNotChange() {
        try (Client client = Client.builder().disabled(true).build()) {
            Stats before = client.stats();
            client.send(CALL);
            assertEquals(0, before.events());
            assertEquals(1, client.stats().events());
            assertThrows(UnsupportedOperationException.class, () -> before.asMap().clear());
        }
    }
}
