/**
 * Reports LLM calls to an llmstatsd daemon, or to any StatsD server.
 *
 * <p>One call is one UDP datagram of StatsD lines, sent and forgotten:
 *
 * <pre>{@code
 * try (Client client = Client.fromEnvironment()) {
 *     String answer = client.request("gpt-4o", "chat", call -> ask(prompt));
 * }
 * }</pre>
 *
 * <p>{@link dev.llmstatsd.client.Client#send Client.send} reports a call that the application has measured itself.
 *
 * <p>Nothing here throws an exception of its own into the application, or makes it wait for a daemon.
 * What could not be sent is counted, and {@link dev.llmstatsd.client.Client#stats Client.stats} shows the counts.
 * An {@link java.lang.Error}, such as {@link java.lang.OutOfMemoryError}, is passed on.
 */
package dev.llmstatsd.client;
