package dev.llmstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.Inet6Address;
import java.net.InetAddress;
import java.net.PortUnreachableException;
import java.net.UnknownHostException;
import java.nio.channels.ClosedByInterruptException;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What becomes of datagrams that the kernel or the name server gives trouble with. */
class SenderTest {
    private static final String LINE = "llm_request_total:1|c";

    private final FakeConnections connections = new FakeConnections();
    private final AtomicLong nanos = new AtomicLong(-5);
    private final AtomicInteger lookups = new AtomicInteger();
    private final Queue<String> addresses = new ConcurrentLinkedQueue<>();
    private final Platform platform = platform();

    private Platform platform() {
        Platform platform = new Platform();
        platform.environment = name -> null;
        platform.nanoTime = nanos::get;
        platform.opener = connections;
        platform.resolver = this::resolve;
        return platform;
    }

    /** Answers with the next of the addresses; the name has none when there is no next one. */
    private InetAddress[] resolve(String name) throws UnknownHostException {
        lookups.incrementAndGet();
        String next = addresses.poll();
        if (next == null) {
            throw new UnknownHostException(name);
        }
        InetAddress[] found = new InetAddress[next.split(" ").length];
        for (int i = 0; i < found.length; i++) {
            found[i] = InetAddress.getByName(next.split(" ")[i]);
        }
        return found;
    }

    private Client client() {
        return Client.builder().host("127.0.0.1").build(platform);
    }

    private Client named() {
        return Client.builder().host("daemon.example").build(platform);
    }

    private static void send(Client client) {
        client.send(new Event());
    }

    /** Sends, and waits until the lookup that this starts has ended. */
    private void sendAndLookUp(Client client, int lookupsThen) {
        send(client);
        Eventually.until(() -> lookups.get() == lookupsThen, "lookup " + lookupsThen);
        client.flush();
    }

    private static void assertCounts(Client client, long sent, Count dropped, long drops) {
        Stats stats = client.stats();
        assertEquals(sent, stats.sentDatagrams());
        assertEquals(sent * LINE.length(), stats.sentBytes());
        assertEquals(drops, stats.get(dropped));
        long allDrops = stats.droppedFull() + stats.droppedUnresolved() + stats.droppedUnreachable() + stats.droppedError();
        assertEquals(drops, allDrops);
    }

    @Test
    void nothingIsOpenedBeforeTheFirstEvent() {
        try (Client client = client()) {
            assertTrue(connections.opened.isEmpty());
            send(client);
            send(client);
            assertEquals(1, connections.opened.size());
        }
        assertEquals(1, connections.closed);
    }

    @Test
    void aFullSocketBufferIsACountedDrop() {
        connections.mishaps.add(() -> false);
        connections.fail(new IOException("No buffer space available"));
        try (Client client = client()) {
            send(client);
            send(client);
            send(client);
            assertCounts(client, 1, Count.DROPPED_FULL, 2);
            assertEquals(1, connections.opened.size());
        }
    }

    @Test
    void aRefusalOfAnEarlierDatagramSendsThisOneAgain() {
        connections.fail(new PortUnreachableException());
        try (Client client = client()) {
            send(client);
            assertCounts(client, 1, Count.DROPPED_UNREACHABLE, 0);
            assertEquals(1, connections.opened.size());
        }
    }

    @Test
    void aSecondRefusalIsACountedDrop() {
        connections.fail(new PortUnreachableException());
        connections.fail(new PortUnreachableException());
        try (Client client = client()) {
            send(client);
            assertCounts(client, 0, Count.DROPPED_UNREACHABLE, 1);
        }
    }

    @Test
    void anyOtherErrorIsACountedDropAndTheNextEventOpensASocket() {
        connections.fail(new IOException("Message too long"));
        connections.fail(new IllegalStateException());
        try (Client client = client()) {
            send(client);
            send(client);
            assertCounts(client, 0, Count.DROPPED_ERROR, 2);
            send(client);
            assertCounts(client, 1, Count.DROPPED_ERROR, 2);
            assertEquals(3, connections.opened.size());
            assertEquals(2, connections.closed);
        }
    }

    @Test
    void aSocketThatCannotBeOpenedIsACountedDrop() {
        platform.opener = to -> {
            throw new IOException("Too many open files");
        };
        try (Client client = client()) {
            send(client);
            assertCounts(client, 0, Count.DROPPED_ERROR, 1);
        }
    }

    @Test
    void anInterruptThatClosesTheChannelLosesNothing() {
        AtomicInteger interruptedSends = new AtomicInteger();
        connections.mishaps.add(() -> {
            Thread.currentThread().interrupt();
            throw new ClosedByInterruptException();
        });
        connections.mishaps.add(() -> {
            interruptedSends.addAndGet(Thread.currentThread().isInterrupted() ? 1 : 0);
            return true;
        });
        try (Client client = client()) {
            send(client);
            assertTrue(Thread.interrupted(), "the thread stays interrupted");
            assertEquals(0, interruptedSends.get());
            assertCounts(client, 1, Count.DROPPED_ERROR, 0);
            assertEquals(2, connections.opened.size());
        }
    }

    @Test
    void anErrorOfTheMachineIsPassedOn() {
        connections.mishaps.add(() -> {
            throw new OutOfMemoryError();
        });
        try (Client client = client()) {
            assertThrows(OutOfMemoryError.class, () -> send(client));
            send(client);
            assertEquals(1, client.stats().sentDatagrams());
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"127.0.0.1", "8.8.8.8", "::1", "2001:db8::1", "::ffff:10.0.0.1"})
    void anAddressIsNeverLookedUp(String address) throws UnknownHostException {
        try (Client client = Client.builder().host(address).port(9).build(platform)) {
            send(client);
            nanos.addAndGet(TimeUnit.HOURS.toNanos(1));
            send(client);
            assertCounts(client, 2, Count.DROPPED_ERROR, 0);
        }
        assertEquals(0, lookups.get());
        assertEquals(InetAddress.getByName(address), connections.opened.get(0).getAddress());
    }

    @ParameterizedTest
    @ValueSource(strings = {"1.2.3", "256.1.1.1", "1.2.3.4.5", "::zz", "abc:def", "1::2::3", "\0", "a b", "%"})
    void whatIsAlmostAnAddressIsLookedUpInTheBackground(String host) {
        try (Client client = Client.builder().host(host).build(platform)) {
            sendAndLookUp(client, 1);
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, 1);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, -1, 65536, Integer.MAX_VALUE, Integer.MIN_VALUE})
    void aPortThatIsNoneIsCountedAsUnresolved(int port) {
        try (Client client = Client.builder().port(port).build(platform)) {
            send(client);
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, 1);
        }
    }

    @Test
    void aUnixSocketIsCountedAsAnError() {
        try (Client client = Client.builder().socket("/run/llmstatsd.sock").build(platform)) {
            send(client);
            assertCounts(client, 0, Count.DROPPED_ERROR, 1);
        }
    }

    @Test
    void ipv4IsPreferred() throws UnknownHostException {
        addresses.add("::1 10.0.0.7 10.0.0.8");
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            assertEquals(InetAddress.getByName("10.0.0.7"), connections.opened.get(0).getAddress());
        }
    }

    @Test
    void ipv6IsTakenWhenThereIsNothingElse() {
        addresses.add("::1");
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            assertTrue(connections.opened.get(0).getAddress() instanceof Inet6Address);
        }
    }

    @Test
    void datagramsWaitForTheFirstLookup() {
        CountDownLatch answer = new CountDownLatch(1);
        platform.resolver = name -> {
            try {
                answer.await();
            } catch (InterruptedException e) {
                throw new UnknownHostException(name);
            }
            return new InetAddress[] {InetAddress.getByName("10.0.0.7")};
        };
        try (Client client = named()) {
            send(client);
            send(client);
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, 0);
            answer.countDown();
            client.flush();
            assertCounts(client, 2, Count.DROPPED_UNRESOLVED, 0);
        }
    }

    @Test
    void whatWaitsForALookupIsBounded() {
        CountDownLatch answer = new CountDownLatch(1);
        platform.resolver = name -> {
            try {
                answer.await();
            } catch (InterruptedException e) {
                // as good as an answer
            }
            throw new UnknownHostException(name);
        };
        int many = 60_000; // 1.26 MB
        try (Client client = named()) {
            for (int i = 0; i < many; i++) {
                send(client);
            }
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, many - (1 << 20) / LINE.length());
            answer.countDown();
            client.flush();
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, many);
        }
    }

    @Test
    void anInterruptedThreadDoesNotWaitForALookup() {
        CountDownLatch never = new CountDownLatch(1);
        platform.resolver = name -> {
            try {
                never.await();
            } catch (InterruptedException e) {
                // as good as an answer
            }
            throw new UnknownHostException(name);
        };
        Client client = named();
        send(client);
        Thread.currentThread().interrupt();
        client.close();
        assertTrue(Thread.interrupted(), "the thread stays interrupted");
        assertCounts(client, 0, Count.DROPPED_UNRESOLVED, 1);
        never.countDown();
    }

    @Test
    void aNameIsLookedUpAgainAfterAMinute() {
        addresses.addAll(List.of("10.0.0.7", "10.0.0.8"));
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            nanos.addAndGet(TimeUnit.SECONDS.toNanos(60) - 1);
            send(client);
            assertEquals(1, lookups.get());
            nanos.incrementAndGet();
            Eventually.until(() -> opensAt(client, "10.0.0.8"), "the new address");
            assertEquals(2, lookups.get());
            assertEquals(1, connections.closed);
        }
    }

    private boolean opensAt(Client client, String address) {
        send(client);
        synchronized (connections) {
            return connections.opened.get(connections.opened.size() - 1).getAddress().getHostAddress().equals(address);
        }
    }

    @Test
    void aNameIsLookedUpAgainASecondAfterAnError() {
        addresses.addAll(List.of("10.0.0.7", "10.0.0.8"));
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            connections.fail(new IOException("Network is unreachable"));
            send(client);
            send(client);
            assertEquals(1, lookups.get());
            nanos.addAndGet(TimeUnit.SECONDS.toNanos(1));
            Eventually.until(() -> opensAt(client, "10.0.0.8"), "the new address");
        }
    }

    @Test
    void aNameWithoutAnAddressIsLookedUpAgainASecondLater() {
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            send(client);
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, 2);
            assertEquals(1, lookups.get());
            addresses.add("10.0.0.7");
            nanos.addAndGet(TimeUnit.SECONDS.toNanos(1));
            sendAndLookUp(client, 2);
            assertCounts(client, 1, Count.DROPPED_UNRESOLVED, 2);
        }
    }

    @Test
    void theLastAddressStaysWhenALaterLookupFails() {
        addresses.add("10.0.0.7");
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            nanos.addAndGet(TimeUnit.SECONDS.toNanos(60));
            sendAndLookUp(client, 2);
            send(client);
            assertCounts(client, 3, Count.DROPPED_UNRESOLVED, 0);
        }
    }

    @Test
    void aResolverThatBreaksIsAsGoodAsNoAddress() {
        platform.resolver = name -> {
            lookups.incrementAndGet();
            throw new SecurityException();
        };
        try (Client client = named()) {
            sendAndLookUp(client, 1);
            assertCounts(client, 0, Count.DROPPED_UNRESOLVED, 1);
        }
    }

    @Test
    void aClosedClientLooksNothingUp() {
        addresses.add("10.0.0.7");
        Client client = named();
        client.close();
        send(client);
        assertEquals(1, client.stats().closedEvents());
        assertFalse(lookups.get() > 0);
        assertTrue(connections.opened.isEmpty());
    }
}
