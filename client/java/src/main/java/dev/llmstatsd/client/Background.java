package dev.llmstatsd.client;

import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/** The daemon threads of a client: none at first, and none again ten seconds after the last work. */
final class Background extends ScheduledThreadPoolExecutor {
    /** One for lookups, which may wait long, and one for all that must not wait for them. */
    private static final int THREADS = 2;

    private static final int IDLE_SECONDS = 10;

    Background() {
        super(THREADS, Background::thread);
        setKeepAliveTime(IDLE_SECONDS, TimeUnit.SECONDS);
        allowCoreThreadTimeOut(true);
        setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
    }

    /** Keeps neither the process nor the class loader or thread locals of whoever happened to be first. */
    private static Thread thread(Runnable work) {
        Thread thread = new Thread(null, work, "llmstatsd-client", 0, false);
        thread.setDaemon(true);
        thread.setContextClassLoader(null);
        return thread;
    }
}
