package dev.llmstatsd.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BiConsumer;

/** The cases of client/vectors.json, which Maven runs tests beside. */
final class Vectors {
    private static final Map<String, BiConsumer<Event, Number>> NUMBERS = Map.ofEntries(
            Map.entry("duration_seconds", Event::durationSeconds),
            Map.entry("tokens", Event::tokens),
            Map.entry("prompt_tokens", Event::promptTokens),
            Map.entry("completion_tokens", Event::completionTokens),
            Map.entry("cached_tokens", Event::cachedTokens),
            Map.entry("cost_dollars", Event::costDollars),
            Map.entry("load_duration_seconds", Event::loadDurationSeconds),
            Map.entry("prompt_eval_duration_seconds", Event::promptEvalDurationSeconds),
            Map.entry("total_duration_seconds", Event::totalDurationSeconds),
            Map.entry("time_to_first_token_seconds", Event::timeToFirstTokenSeconds),
            Map.entry("time_per_output_token_seconds", Event::timePerOutputTokenSeconds));

    private Vectors() {}

    static List<JsonObject> cases() {
        return objects(Path.of("..", "vectors.json"), "cases");
    }

    /** The objects in a list of a file. */
    static List<JsonObject> objects(Path file, String list) {
        try {
            String text = Files.readString(file);
            List<JsonObject> objects = new ArrayList<>();
            for (JsonElement each : JsonParser.parseString(text).getAsJsonObject().getAsJsonArray(list)) {
                objects.add(each.getAsJsonObject());
            }
            return objects;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static Event event(JsonObject fields) {
        Event event = new Event();
        fields.entrySet().forEach(entry -> set(event, entry.getKey(), entry.getValue()));
        return event;
    }

    private static void set(Event event, String field, JsonElement value) {
        if (NUMBERS.containsKey(field)) {
            NUMBERS.get(field).accept(event, value.isJsonNull() ? null : number(value.getAsString()));
        } else if (field.equals("rate_limited")) {
            event.rateLimited(value.getAsBoolean());
        } else if (field.equals("fallback")) {
            event.fallback(value.getAsBoolean());
        } else {
            text(event, field, value.isJsonNull() ? null : value.getAsString());
        }
    }

    private static void text(Event event, String field, String value) {
        switch (field) {
            case "model":
                event.model(value);
                break;
            case "operation":
                event.operation(value);
                break;
            case "error":
                event.error(value);
                break;
            default:
                throw new IllegalArgumentException(field);
        }
    }

    private static Number number(String text) {
        if (text.matches("-?[0-9]+")) {
            return Long.valueOf(text);
        }
        return Double.valueOf(text);
    }

    static List<String> texts(JsonArray array) {
        List<String> texts = new ArrayList<>();
        if (array != null) {
            array.forEach(each -> texts.add(each.getAsString()));
        }
        return texts;
    }

    static List<String> datagrams(Event event, int maxDatagramBytes) {
        Encoder encoder = new Encoder();
        encoder.encode(event);
        List<String> datagrams = new ArrayList<>();
        int end;
        for (int from = 0; from < encoder.length(); from = end + 1) {
            end = encoder.cut(from, maxDatagramBytes);
            datagrams.add(new String(encoder.bytes(), from, end - from, StandardCharsets.UTF_8));
        }
        return datagrams;
    }

    static Set<String> refused(Event event) {
        Encoder encoder = new Encoder();
        encoder.encode(event);
        Set<String> refused = new TreeSet<>();
        for (Field field : Field.values()) {
            if ((encoder.refused() & field.bit()) != 0) {
                refused.add(field.name().toLowerCase(java.util.Locale.ROOT));
            }
        }
        return refused;
    }
}
