'use strict';

/**
 * What a provider's answer says about tokens and durations, told by its shape: no SDK is loaded for
 * it.
 */

function whole(value) {
  return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/**
 * Without the fields that are not there, so that the events of one stream can be laid over each
 * other.
 */
function present(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Anthropic's `input_tokens` leave out what was read from the cache or written to it. */
function inputTokens(amounts) {
  const input = whole(amounts.input_tokens);
  if (input === undefined || whole(amounts.total_tokens) !== undefined) return input;
  const read = whole(amounts.cache_read_input_tokens) ?? 0;
  const written = whole(amounts.cache_creation_input_tokens) ?? 0;
  return input + read + written;
}

/** The `usage` of OpenAI (chat completions and responses) and of Anthropic, which has no total. */
function fromUsage(amounts) {
  return present({
    tokens: whole(amounts.total_tokens),
    promptTokens: whole(amounts.prompt_tokens) ?? inputTokens(amounts),
    completionTokens: whole(amounts.completion_tokens) ?? whole(amounts.output_tokens),
    cachedTokens:
      whole(amounts.prompt_tokens_details?.cached_tokens) ??
      whole(amounts.input_tokens_details?.cached_tokens) ??
      whole(amounts.cache_read_input_tokens),
  });
}

/** Ollama leaves out what is zero, and counts nanoseconds. */
function fromOllama(chunk) {
  const seconds = (nanoseconds) => (nanoseconds > 0 ? nanoseconds / 1e9 : undefined);
  const completionTokens = whole(chunk.eval_count) || undefined;
  return present({
    promptTokens: whole(chunk.prompt_eval_count) || undefined,
    completionTokens,
    loadDurationSeconds: seconds(chunk.load_duration),
    promptEvalDurationSeconds: seconds(chunk.prompt_eval_duration),
    totalDurationSeconds: seconds(chunk.total_duration),
    timePerOutputTokenSeconds: completionTokens && seconds(chunk.eval_duration / completionTokens),
  });
}

/**
 * The fields of an event that an answer, or one chunk of a streamed answer, gives.
 * Takes anything and never throws; what it does not know gives no fields.
 */
function usage(response) {
  try {
    if (response.done === true) return fromOllama(response);
    // In a stream, OpenAI's last event wraps the response, and Anthropic's first one the message.
    const amounts = response.usage ?? response.response?.usage ?? response.message?.usage;
    return amounts ? fromUsage(amounts) : {};
  } catch {
    return {};
  }
}

module.exports = { usage };
