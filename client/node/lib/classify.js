'use strict';

/** Which error type of the closed set an error is, told by its looks: no SDK is loaded for it. */

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
  [
    /maximum context length|context_length_exceeded|prompt is too long|context window/i,
    'context_length',
  ],
  [/content management policy|content_filter|content policy/i, 'content_filter'],
  [/insufficient_quota|exceeded your current quota|credit balance is too low/i, 'quota'],
  [/api key not valid/i, 'auth'],
];
const LONGEST_MESSAGE = 2_000;

/**
 * Statuses with a type of their own. 424 is Bedrock's for a model that failed, 451 says that a law
 * forbids it, 498 that Groq's flex tier is full, 499 is nginx's for a client that went away, 522 and
 * 524 are Cloudflare's for a provider that took too long, 529 is Anthropic's when it is overloaded.
 */
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
  451: 'permission',
  498: 'overloaded',
  499: 'cancelled',
  503: 'overloaded',
  504: 'timeout',
  522: 'timeout',
  524: 'timeout',
  529: 'overloaded',
};

/** Codes of the system, of undici and axios, and of providers. */
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
  insufficient_quota: 'quota',
  billing_hard_limit_reached: 'quota',
  billing_not_active: 'quota',
  billing_error: 'quota',
  context_length_exceeded: 'context_length',
  content_filter: 'content_filter',
  content_policy_violation: 'content_filter',
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

/** What a code or a message may make of a class or a status: a used-up quota is a 429, too. */
const REFINED = {
  invalid_request: ['context_length', 'content_filter', 'quota', 'auth', 'permission', 'not_found'],
  rate_limit: ['quota'],
  server_error: ['overloaded', 'timeout'],
};

/** How far chains are followed, of classes and of causes; a Proxy may make either endless. */
const LONGEST_CHAIN = 10;

function* allWithin(table, keys) {
  for (const key of keys) {
    if (typeof key === 'string' && Object.hasOwn(table, key)) yield table[key];
  }
}

function within(table, keys) {
  return allWithin(table, keys).next().value;
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

function* byMessage({ message }) {
  if (typeof message !== 'string') return;
  const start = message.slice(0, LONGEST_MESSAGE);
  for (const [pattern, type] of MESSAGES) {
    if (pattern.test(start)) yield type;
  }
}

function refined(type, error) {
  const allowed = REFINED[type] ?? [];
  for (const exact of allWithin(CODES, codes(error))) {
    if (type === undefined || allowed.includes(exact)) return exact;
  }
  for (const exact of byMessage(error)) {
    if (allowed.includes(exact)) return exact;
  }
  return type;
}

function byLooks(error) {
  const type = within(NAMES, classNames(error)) ?? byStatus(error);
  return refined(type, error) ?? within(VAGUE_NAMES, classNames(error));
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
