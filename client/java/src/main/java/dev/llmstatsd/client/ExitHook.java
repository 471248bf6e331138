package dev.llmstatsd.client;

/** Sends what a sender keeps when the process ends and the application has not closed its client. */
final class ExitHook {
    private final Thread thread;

    ExitHook(Sender sender) {
        thread = new Thread(null, sender::stopBuffering, "llmstatsd-client-exit", 0, false);
        try {
            Runtime.getRuntime().addShutdownHook(thread);
        } catch (IllegalStateException | SecurityException e) {
            // The process is ending already, or hooks are not allowed.
        }
    }

    void remove() {
        try {
            Runtime.getRuntime().removeShutdownHook(thread);
        } catch (IllegalStateException | SecurityException e) {
            // The process is ending, and the hook finds nothing to send.
        }
    }
}
