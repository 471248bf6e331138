'use strict';

/** Which error type of the closed set an error is, told by its looks: no SDK is loaded for it. */

/**
 * Codes of providers that say more than class and status do: a used-up quota comes as a 429, too.
 */
const PRECISE_CODES = {
  insufficient_quota: 'quota',
  billing_hard_limit_reached: 'quota',
  billing_not_active: 'quota',
  context_length_exceeded: 'context_length',
  string_above_max_length: 'context_length',
  content_filter: 'content_filter',
  content_policy_violation: 'content_filter',
};

/**
 * Names of error classes: the SDKs of OpenAI and Anthropic, fetch and undici, the AI SDK, Bedrock.
 */
const NAMES = {
  AbortError: 'cancelled',
  APIUserAbortError: 'cancelled',
  TimeoutError: 'timeout',
  APIConnectionTimeoutError: 'timeout',
  ConnectTimeoutError: 'timeout',
  HeadersTimeoutError: 'timeout',
  BodyTimeoutError: 'timeout',
  ModelTimeoutException: 'timeout',
  APIConnectionError: 'connection',
  SocketError: 'connection',
  RateLimitError: 'rate_limit',
  ThrottlingException: 'rate_limit',
  ServiceQuotaExceededException: 'quota',
  AuthenticationError: 'auth',
  AI_LoadAPIKeyError: 'auth',
  PermissionDeniedError: 'permission',
  AccessDeniedException: 'permission',
  NotFoundError: 'not_found',
  ResourceNotFoundException: 'not_found',
  AI_NoSuchModelError: 'not_found',
  ContentFilterFinishReasonError: 'content_filter',
  BadRequestError: 'invalid_request',
  ConflictError: 'invalid_request',
  UnprocessableEntityError: 'invalid_request',
  ValidationException: 'invalid_request',
  ModelNotReadyException: 'overloaded',
  ServiceUnavailableException: 'overloaded',
  InternalServerException: 'server_error',
  SyntaxError: 'invalid_response',
  LengthFinishReasonError: 'invalid_response',
  AI_JSONParseError: 'invalid_response',
  AI_InvalidResponseDataError: 'invalid_response',
  AI_TypeValidationError: 'invalid_response',
  AI_NoObjectGeneratedError: 'invalid_response',
};

/**
 * Classes that say no more than that a provider answered with an error, perhaps within a stream.
 */
const VAGUE_NAMES = {
  APIError: 'server_error',
  AI_APICallError: 'server_error',
  ResponseError: 'server_error',
};

/** What messages say of refused calls where no code does: Anthropic's long prompts, for one. */
const MESSAGES = [
  [/maximum context length|prompt is too long|context window/i, 'context_length'],
  [/content management policy|content policy/i, 'content_filter'],
  [/exceeded your current quota|credit balance is too low/i, 'quota'],
];
const LONGEST_MESSAGE = 2_000;

/** Statuses with a type of their own; Anthropic answers 529 when it is overloaded. */
const STATUSES = {
  401: 'auth',
  402: 'quota',
  403: 'permission',
  404: 'not_found',
  407: 'auth',
  408: 'timeout',
  410: 'not_found',
  424: 'server_error',
  429: 'rate_limit',
  499: 'cancelled',
  503: 'overloaded',
  504: 'timeout',
  524: 'timeout',
  529: 'overloaded',
};

/** Codes of the system, of undici and axios, and what providers call an error within a stream. */
const CODES = {
  ABORT_ERR: 'cancelled',
  ERR_CANCELED: 'cancelled',
  UND_ERR_ABORTED: 'cancelled',
  ETIMEDOUT: 'timeout',
  ESOCKETTIMEDOUT: 'timeout',
  ECONNABORTED: 'timeout',
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  timeout_error: 'timeout',
  ECONNREFUSED: 'connection',
  ECONNRESET: 'connection',
  EPIPE: 'connection',
  EPROTO: 'connection',
  ENOTFOUND: 'connection',
  EAI_AGAIN: 'connection',
  EHOSTUNREACH: 'connection',
  ENETUNREACH: 'connection',
  ERR_NETWORK: 'connection',
  ERR_STREAM_PREMATURE_CLOSE: 'connection',
  UND_ERR_SOCKET: 'connection',
  CERT_HAS_EXPIRED: 'connection',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'connection',
  SELF_SIGNED_CERT_IN_CHAIN: 'connection',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'connection',
  ERR_TLS_CERT_ALTNAME_INVALID: 'connection',
  rate_limit_exceeded: 'rate_limit',
  rate_limit_error: 'rate_limit',
  billing_error: 'quota',
  invalid_api_key: 'auth',
  authentication_error: 'auth',
  permission_error: 'permission',
  model_not_found: 'not_found',
  not_found_error: 'not_found',
  invalid_request_error: 'invalid_request',
  request_too_large: 'invalid_request',
  overloaded_error: 'overloaded',
  server_error: 'server_error',
  api_error: 'server_error',
};

/** How far chains are followed, of classes and of causes; a Proxy may make either endless. */
const LONGEST_CHAIN = 10;

function within(table, keys) {
  for (const key of keys) {
    if (typeof key === 'string' && Object.hasOwn(table, key)) return table[key];
  }
  return undefined;
}

function* classNames(error) {
  yield error.name;
  let prototype = Object.getPrototypeOf(error);
  for (let left = LONGEST_CHAIN; prototype !== null && left > 0; left -= 1) {
    yield prototype.constructor?.name;
    prototype = Object.getPrototypeOf(prototype);
  }
}

/** Its own code and type, and those in the body of the answer, which SDKs keep as `error`. */
function* codes(error) {
  let body = error;
  for (let left = 3; body !== null && typeof body === 'object' && left > 0; left -= 1) {
    yield body.code;
    yield body.type;
    body = body.error;
  }
}

function byStatus(error) {
  const status =
    error.status ??
    error.statusCode ??
    error.status_code ??
    error.response?.status ??
    error.$metadata?.httpStatusCode;
  if (!Number.isInteger(status) || status < 400 || status > 599) return undefined;
  return STATUSES[status] ?? (status < 500 ? 'invalid_request' : 'server_error');
}

function byMessage({ message }) {
  if (typeof message !== 'string') return undefined;
  const start = message.slice(0, LONGEST_MESSAGE);
  return MESSAGES.find(([pattern]) => pattern.test(start))?.[1];
}

function byLooks(error) {
  const precise = within(PRECISE_CODES, codes(error));
  if (precise !== undefined) return precise;
  const type =
    within(NAMES, classNames(error)) ??
    byStatus(error) ??
    within(CODES, codes(error)) ??
    within(VAGUE_NAMES, classNames(error));
  const isRefused = type === 'invalid_request' || type === 'rate_limit';
  return isRefused ? (byMessage(error) ?? type) : type;
}

/**
 * The error type of anything that was thrown, or of what caused it; `other` for what it does not
 * know.
 */
function classify(error) {
  try {
    let cause = error;
    for (let left = LONGEST_CHAIN; left > 0; left -= 1) {
      if (cause === null || typeof cause !== 'object') break;
      const type = byLooks(cause);
      if (type !== undefined) return type;
      cause = cause.cause;
    }
  } catch {
    // A getter of the error threw; the application hears of the error itself.
  }
  return 'other';
}

module.exports = { classify };
