package dev.llmstatsd.client;

import java.util.Locale;
import java.util.Set;
import java.util.function.UnaryOperator;

/**
 * The arguments of a client over the environment over the defaults.
 *
 * <p>An argument that is null is not given, and neither is an empty text.
 */
final class Settings {
    private static final Set<String> YES = Set.of("1", "true", "yes", "on");

    /** Each pair of a host's variable and a port's, the first that is there decides. */
    private static final String[][] PAIRS = {
        {"LLMSTATSD_HOST", "LLMSTATSD_PORT"}, {"DD_AGENT_HOST", "DD_DOGSTATSD_PORT"}, {"STATSD_HOST", "STATSD_PORT"},
    };

    String host;
    Integer port;
    String socket;
    Boolean disabled;
    boolean buffered;
    int maxDatagramBytes;

    Destination destination(UnaryOperator<String> environment) {
        if (isGiven(socket)) {
            return Destination.socket(socket);
        }
        if (isGiven(host) || port != null) {
            return pair(host, port);
        }
        String path = environment.apply("LLMSTATSD_SOCKET");
        return isGiven(path) ? Destination.socket(path) : fromPairs(environment);
    }

    private static Destination fromPairs(UnaryOperator<String> environment) {
        for (String[] names : PAIRS) {
            String host = environment.apply(names[0]);
            Integer port = port(environment.apply(names[1]));
            if (isGiven(host) || port != null) {
                return pair(host, port);
            }
        }
        return pair(null, null);
    }

    private static Destination pair(String host, Integer port) {
        return Destination.udp(
                isGiven(host) ? host : Destination.DEFAULT_HOST, port == null ? Destination.DEFAULT_PORT : port);
    }

    /**
     * Null for a text that is no port.
     * In a pod beside a service called llmstatsd, Kubernetes sets LLMSTATSD_PORT to udp://10.0.0.1:8125.
     */
    private static Integer port(String text) {
        if (text == null || !text.matches("[0-9]{1,9}")) {
            return null;
        }
        int port = Integer.parseInt(text);
        return Destination.isPort(port) ? port : null;
    }

    boolean isDisabled(UnaryOperator<String> environment) {
        if (disabled != null) {
            return disabled;
        }
        String variable = environment.apply("LLMSTATSD_DISABLE");
        return variable != null && YES.contains(variable.toLowerCase(Locale.ROOT));
    }

    private static boolean isGiven(String text) {
        return text != null && !text.isEmpty();
    }
}
