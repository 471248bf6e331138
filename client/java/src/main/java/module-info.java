/** Sends the metrics of LLM calls to an llmstatsd daemon, or to any StatsD server. */
module dev.llmstatsd.client {
    exports dev.llmstatsd.client;
}
