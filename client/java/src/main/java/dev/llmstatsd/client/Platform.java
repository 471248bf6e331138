package dev.llmstatsd.client;

import java.net.InetAddress;
import java.util.function.LongSupplier;
import java.util.function.UnaryOperator;

/** What one client needs of its surroundings; tests put their own in its place. */
final class Platform {
    /** The value of a variable, or null. */
    UnaryOperator<String> environment = Platform::variable;

    LongSupplier nanoTime = System::nanoTime;
    Lookup.Resolver resolver = InetAddress::getAllByName;
    Connection.Opener opener = new Udp();

    private static String variable(String name) {
        try {
            return System.getenv(name);
        } catch (SecurityException e) {
            return null; // what may not be read is missing
        }
    }
}
