/** One of the closed set; any other text that is sent counts as `other`. */
export type ErrorType =
  | 'timeout'
  | 'connection'
  | 'rate_limit'
  | 'quota'
  | 'auth'
  | 'permission'
  | 'not_found'
  | 'context_length'
  | 'content_filter'
  | 'invalid_request'
  | 'overloaded'
  | 'server_error'
  | 'invalid_response'
  | 'cancelled'
  | 'other';

/**
 * One finished LLM call. Every field may be missing; one that is out of range is left out and
 * counted.
 */
export interface LlmEvent {
  /** The first 128 characters are kept. */
  model?: string | null;
  /** `chat`, `embeddings` and so on; the first 128 characters are kept. */
  operation?: string | null;
  /** Duration of the request; this and all seconds: 0 to 1e9. */
  durationSeconds?: number | null;
  /**
   * The provider's total; without it, prompt and completion. This and all tokens: whole, 0 to 2^53
   * - 1.
   */
  tokens?: number | null;
  promptTokens?: number | null;
  completionTokens?: number | null;
  /** Those of the prompt that came from the provider's cache. */
  cachedTokens?: number | null;
  /** 0 to 1e6. */
  costDollars?: number | null;
  loadDurationSeconds?: number | null;
  promptEvalDurationSeconds?: number | null;
  totalDurationSeconds?: number | null;
  timeToFirstTokenSeconds?: number | null;
  timePerOutputTokenSeconds?: number | null;
  /** Why the call failed. */
  error?: ErrorType | (string & {}) | null;
  /** The provider refused the call for its rate; implied by the error `rate_limit`. */
  rateLimited?: boolean | null;
  /** Another model stood in for this one. */
  fallback?: boolean | null;
}

/** An argument beats an environment variable, a variable the default. */
export interface ClientOptions {
  /** Name or address; `127.0.0.1` unless given. */
  host?: string;
  /** 1 to 65535; 8125 unless given. */
  port?: number;
  /** Send nothing; off unless given. */
  disabled?: boolean;
  /** Let events share datagrams for up to 300 ms; off unless given. */
  buffered?: boolean;
  /** 1 to 65507 bytes; 1432 unless given. */
  maxDatagramBytes?: number;
}

/** Counts since the client was made. A datagram is either sent or dropped. */
export interface Stats {
  /** Events that were given to `send`, those of a disabled or closed client too. */
  events: number;
  /** Fields of the wrong type or out of range; the rest of their event was sent. */
  refusedFields: number;
  /** Events after `close`. */
  closedEvents: number;
  /** Datagrams that the kernel took. */
  sentDatagrams: number;
  sentBytes: number;
  /** 10,000 datagrams were under way already, or the socket was full. */
  droppedFull: number;
  /** The host has no address, or the host or port that was given is none. */
  droppedUnresolved: number;
  /** Nobody listens there. */
  droppedUnreachable: number;
  /** Any other error of the socket. */
  droppedError: number;
}

/** A call that is running. */
export interface Call {
  /** Add fields to the event; they stand against what is measured or seen. */
  set(fields: LlmEvent): void;
  /** The first token is there; only the first time counts. */
  firstToken(): void;
  /**
   * Pass the chunks of a stream on, unchanged; the call is counted when they end, fail, or the
   * reader breaks off.
   * The first chunk is taken as the first token, and usage in chunks is recorded.
   */
  stream<T>(source: AsyncIterable<T> | Iterable<T>): AsyncIterableIterator<T>;
}

/** Counts LLM calls. No method throws, blocks, or keeps the process from ending. */
export class Client {
  constructor(options?: ClientOptions);
  /** Count one finished call. */
  send(event?: LlmEvent): void;
  /**
   * Run `work`, time it, classify what it throws, and count it once; what it gives or throws is
   * passed on.
   * A result that is a provider's response gives the tokens.
   */
  request<T>(fields: LlmEvent, work: (call: Call) => T | PromiseLike<T>): Promise<T>;
  stats(): Stats;
  /** Send buffered lines now. Resolved when nothing is under way any more; never rejected. */
  flush(): Promise<void>;
  /** Flush and close. Resolved within two seconds; never rejected. */
  close(): Promise<void>;
}

/** The error type of anything that was thrown. */
export function classify(error: unknown): ErrorType;

/**
 * The fields of an event that a response gives, or a chunk of a streamed one:
 * OpenAI's chat completions and responses, Anthropic's messages, Ollama's chat and generate.
 */
export function usage(response: unknown): LlmEvent;

/** An event as the datagrams that a client sends, and the names of the fields that it refuses. */
export function encode(
  event: LlmEvent,
  maxDatagramBytes?: number,
): { datagrams: string[]; refused: string[] };
