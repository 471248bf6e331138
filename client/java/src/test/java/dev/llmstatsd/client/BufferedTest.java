package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BufferedTest {
    private static final String LINE = "llm_request_total:1|c|#model:m";
    private static final Event CALL = new Event().model("m");

    /** A process that sends and ends without closing its client. */
    static final class Forgetful {
        private Forgetful() {}

        public static void main(String[] args) {
            Client client = Client.builder()
                    .disabled(false)
                    .host(args[0])
                    .port(Integer.parseInt(args[1]))
                    .buffered(true)
                    .build();
            client.send(CALL);
            client.send(CALL);
        }
    }

    @Test
    void callsShareADatagram() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().buffered(true).build()) {
            client.send(CALL);
            client.send(CALL);
            client.flush();
            assertEquals(LINE + "\n" + LINE, daemon.next());
            assertEquals(1, client.stats().sentDatagrams());
            assertEquals(2, client.stats().events());
        }
    }

    @Test
    void linesAreSentAfterAWhile() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().buffered(true).build()) {
            client.send(CALL);
            assertEquals(LINE, daemon.next());
            client.send(CALL);
            assertEquals(LINE, daemon.next());
        }
    }

    @Test
    void theNextEventThatDoesNotFitFlushes() {
        int exactlyTwo = 2 * LINE.length() + 1;
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().buffered(true).maxDatagramBytes(exactlyTwo).build()) {
            client.send(CALL);
            client.send(CALL);
            assertEquals(0, client.stats().sentDatagrams());
            client.send(CALL);
            assertEquals(LINE + "\n" + LINE, daemon.next());
            client.flush();
            assertEquals(LINE, daemon.next());
        }
    }

    @Test
    void anEventOverOneDatagramIsCutBetweenLines() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().buffered(true).maxDatagramBytes(40).build()) {
            client.send(new Event().model("m").tokens(5).promptTokens(3));
            client.flush();
            assertEquals(LINE, daemon.next());
            assertEquals("llm_tokens_total:5|c|#model:m", daemon.next());
            assertEquals("llm_prompt_tokens_total:3|c|#model:m", daemon.next());
        }
    }

    @Test
    void aLineThatIsTooLongStandsAlone() {
        try (Daemon daemon = new Daemon();
                Client client = daemon.client().buffered(true).maxDatagramBytes(10).build()) {
            client.send(CALL);
            assertEquals(LINE, daemon.next());
        }
    }

    @Test
    void closeFlushes() {
        try (Daemon daemon = new Daemon()) {
            Client client = daemon.client().buffered(true).build();
            client.send(CALL);
            client.close();
            assertEquals(LINE, daemon.next());
            client.send(CALL);
            assertNull(daemon.nextIfAny());
            assertEquals(1, client.stats().closedEvents());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"127.0.0.1", "localhost"})
    void theEndOfTheProcessFlushes(String host) throws IOException, InterruptedException {
        try (Daemon daemon = new Daemon()) {
            Process process = new ProcessBuilder(
                            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                            "-cp", classes(Client.class) + System.getProperty("path.separator") + classes(Forgetful.class),
                            Forgetful.class.getName(), host, Integer.toString(daemon.port()))
                    .inheritIO()
                    .start();
            assertTrue(process.waitFor(Eventually.DEADLINE_SECONDS, TimeUnit.SECONDS));
            assertEquals(0, process.exitValue());
            assertEquals(LINE + "\n" + LINE, daemon.next());
        }
    }

    private static String classes(Class<?> type) {
        String file = type.getName().replace('.', '/') + ".class";
        String path = type.getClassLoader().getResource(file).getPath();
        return path.substring(0, path.length() - file.length());
    }

    @Test
    void anExitHookSendsWhatIsThereAndWhatComesLaterAtOnce() {
        try (Daemon daemon = new Daemon()) {
            Settings settings = new Settings();
            settings.buffered = true;
            Sender sender = new Sender(
                    settings, Destination.udp("127.0.0.1", daemon.port()), new Counters(), new Platform());
            Encoder encoder = new Encoder();
            encoder.encode(CALL);
            assertTrue(sender.send(encoder));
            sender.stopBuffering();
            assertEquals(LINE, daemon.nextIfAny());
            assertTrue(sender.send(encoder));
            assertEquals(LINE, daemon.nextIfAny());
            sender.close();
            assertFalse(sender.send(encoder));
        }
    }
}
