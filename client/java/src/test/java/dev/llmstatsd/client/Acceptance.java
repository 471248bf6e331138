package dev.llmstatsd.client;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Collectors;

/** Sends the same failed call from several threads and prints the stats. The environment names the destination. */
public final class Acceptance {
    private Acceptance() {}

    /** Takes {@code --threads N --calls N [--buffered]}. */
    public static void main(String[] args) throws InterruptedException {
        List<String> options = Arrays.asList(args);
        Client client = Client.builder().buffered(options.contains("--buffered")).build();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < number(options, "--threads"); i++) {
            Thread thread = new Thread(() -> send(client, number(options, "--calls")));
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        client.close();
        System.out.println(json(client.stats()));
    }

    private static int number(List<String> options, String name) {
        int at = options.indexOf(name);
        return at < 0 ? 1 : Integer.parseInt(options.get(at + 1));
    }

    private static void send(Client client, int calls) {
        Event event = failedCall();
        for (int i = 0; i < calls; i++) {
            client.send(event);
        }
    }

    /** The case of client/vectors.json with the name "a failed call with all fields". */
    static Event failedCall() {
        return new Event()
                .model("gpt-4o")
                .operation("chat")
                .durationSeconds(1.84)
                .tokens(230)
                .promptTokens(200)
                .completionTokens(30)
                .cachedTokens(128)
                .costDollars(0.0123)
                .loadDurationSeconds(0.5)
                .promptEvalDurationSeconds(0.12)
                .totalDurationSeconds(1.8)
                .timeToFirstTokenSeconds(0.3)
                .timePerOutputTokenSeconds(0.0375)
                .error("timeout")
                .rateLimited(true)
                .fallback(true);
    }

    private static String json(Stats stats) {
        return stats.asMap().entrySet().stream()
                .map(entry -> "\"" + entry.getKey() + "\": " + entry.getValue())
                .collect(Collectors.joining(", ", "{", "}"));
    }
}
