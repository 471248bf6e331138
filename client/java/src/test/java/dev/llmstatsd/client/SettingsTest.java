package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SettingsTest {
    private static Map<String, String> variables(String text) {
        Map<String, String> variables = new HashMap<>();
        for (String pair : text == null ? new String[0] : text.split(" ")) {
            variables.put(pair.substring(0, pair.indexOf('=')), pair.substring(pair.indexOf('=') + 1));
        }
        return variables;
    }

    @ParameterizedTest(name = "{0} -> {1}")
    @CsvSource({
        ", 127.0.0.1:8125",
        "LLMSTATSD_SOCKET=/s LLMSTATSD_HOST=a, /s",
        "LLMSTATSD_HOST=a LLMSTATSD_PORT=1 DD_AGENT_HOST=b STATSD_HOST=c, a:1",
        "LLMSTATSD_HOST=a, a:8125",
        "LLMSTATSD_PORT=1, 127.0.0.1:1",
        "LLMSTATSD_PORT=1 DD_AGENT_HOST=b, 127.0.0.1:1",
        "DD_AGENT_HOST=b DD_DOGSTATSD_PORT=2 STATSD_HOST=c STATSD_PORT=3, b:2",
        "DD_DOGSTATSD_PORT=2 STATSD_HOST=c, 127.0.0.1:2",
        "DD_AGENT_HOST=b STATSD_PORT=3, b:8125",
        "STATSD_HOST=c STATSD_PORT=3, c:3",
        "STATSD_HOST=c, c:8125",
        "STATSD_PORT=3, 127.0.0.1:3",
        "LLMSTATSD_SOCKET= LLMSTATSD_HOST= LLMSTATSD_PORT= DD_AGENT_HOST= STATSD_HOST=c, c:8125",
        "LLMSTATSD_PORT=udp://10.0.0.1:8125 DD_AGENT_HOST=b, b:8125",
        "LLMSTATSD_PORT=udp://10.0.0.1:8125 LLMSTATSD_HOST=a, a:8125",
        "LLMSTATSD_PORT=65535, 127.0.0.1:65535",
    })
    void theFirstOfTheVariablesDecides(String variables, String destination) {
        assertEquals(destination, new Settings().destination(variables(variables)::get).toString());
    }

    @ParameterizedTest
    @ValueSource(strings = {"0", "65536", "-1", "+1", "1.0", "1e3", "0x1", "99999999999999999999", "１２", "8125x"})
    void aVariableThatIsNoPortIsMissing(String port) {
        Map<String, String> variables = Map.of("LLMSTATSD_PORT", port, "STATSD_PORT", "3");
        assertEquals("127.0.0.1:3", new Settings().destination(variables::get).toString());
    }

    @ParameterizedTest(name = "{0} {1} {2} -> {3}")
    @CsvSource({
        "/s, a, 1, /s", ", a, 1, a:1", ", a, , a:8125", ", , 1, 127.0.0.1:1", ", , 0, 127.0.0.1:0", ", '', , x:9",
    })
    void anArgumentBeatsTheVariables(String socket, String host, Integer port, String destination) {
        Settings settings = new Settings();
        settings.socket = socket;
        settings.host = host;
        settings.port = port;
        Map<String, String> variables = Map.of("LLMSTATSD_HOST", "x", "LLMSTATSD_PORT", "9");
        assertEquals(destination, settings.destination(variables::get).toString());
    }

    @ParameterizedTest
    @CsvSource({
        "1, true", "true, true", "TRUE, true", "Yes, true", "on, true", "0, false", "false, false", "'', false",
        "' 1', false", ", false",
    })
    void aVariableDisables(String value, boolean disabled) {
        assertEquals(disabled, new Settings().isDisabled(name -> name.equals("LLMSTATSD_DISABLE") ? value : null));
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void anArgumentBeatsTheVariableThatDisables(boolean disabled) {
        Settings settings = new Settings();
        settings.disabled = disabled;
        assertEquals(disabled, settings.isDisabled(name -> disabled ? null : "1"));
    }
}
