'use strict';

/**
 * An event becomes StatsD lines. Pure: no I/O, no clock, no state.
 * client/vectors.json is the contract.
 */

const FIELDS = [
  'model',
  'operation',
  'durationSeconds',
  'tokens',
  'promptTokens',
  'completionTokens',
  'cachedTokens',
  'costDollars',
  'loadDurationSeconds',
  'promptEvalDurationSeconds',
  'totalDurationSeconds',
  'timeToFirstTokenSeconds',
  'timePerOutputTokenSeconds',
  'error',
  'rateLimited',
  'fallback',
];

/** The closed set of `type` of `llm_error_total`. */
const ERROR_TYPES = new Set([
  'timeout',
  'connection',
  'rate_limit',
  'quota',
  'auth',
  'permission',
  'not_found',
  'context_length',
  'content_filter',
  'invalid_request',
  'overloaded',
  'server_error',
  'invalid_response',
  'cancelled',
  'other',
]);

/**
 * Of an Ethernet frame of 1500 bytes, less headers of IPv6 and UDP and some slack; DogStatsD's
 * default.
 */
const MAX_DATAGRAM_BYTES = 1432;

const MAX_LABEL_CHARACTERS = 128;
const MAX_SECONDS = 1e9;
const MAX_DOLLARS = 1e6;

/** What separates parts of a line, what ends it, and surrogates without their other half. */
const UNSAFE = /[\u0000-\u001f\u007f|,#\ud800-\udfff]/u;
const ALL_UNSAFE = new RegExp(UNSAFE.source, 'gu');

/** Stands for a field that throws when it is read; no check lets it pass. */
const UNREADABLE = Symbol('unreadable');

function isMissing(value) {
  return value === undefined || value === null;
}

/** A plain object with the known fields of anything, whatever its getters do. */
function copyFields(source) {
  const copy = {};
  if (isMissing(source)) return copy;
  for (const field of FIELDS) {
    let value;
    try {
      value = source[field];
    } catch {
      value = UNREADABLE;
    }
    if (!isMissing(value)) copy[field] = value;
  }
  return copy;
}

/** A label value that is safe within a line, or undefined. */
function label(value, field, refused) {
  if (isMissing(value) || value === '') return undefined;
  if (typeof value !== 'string') {
    refused.push(field);
    return undefined;
  }
  if (value.length <= MAX_LABEL_CHARACTERS && !UNSAFE.test(value)) return value;
  // A code point is one or two units of a string, so no more than these are looked at.
  const start = [...value.slice(0, 2 * MAX_LABEL_CHARACTERS)].slice(0, MAX_LABEL_CHARACTERS);
  return start.join('').replace(ALL_UNSAFE, '_');
}

/** Milliseconds, whole to the microsecond, or undefined. */
function milliseconds(value, field, refused) {
  if (isMissing(value)) return undefined;
  if (typeof value !== 'number' || !(value >= 0 && value <= MAX_SECONDS)) {
    refused.push(field);
    return undefined;
  }
  // At most 15 digits, so the shortest text of the quotient has at most three decimals.
  return Math.floor(value * 1e6 + 0.5) / 1e3;
}

/** A whole number from 0 to 2^53 - 1, or undefined. */
function count(value, field, refused) {
  if (isMissing(value)) return undefined;
  if (!Number.isSafeInteger(value) || value < 0) {
    refused.push(field);
    return undefined;
  }
  return value;
}

/** Dollars as a decimal, whole to the billionth, or undefined. */
function dollars(value, field, refused) {
  if (isMissing(value)) return undefined;
  if (typeof value !== 'number' || !(value >= 0 && value <= MAX_DOLLARS)) {
    refused.push(field);
    return undefined;
  }
  const nanos = Math.floor(value * 1e9 + 0.5);
  // JavaScript writes what is below 1e-6 with an exponent.
  if (nanos === 0 || nanos >= 1000) return nanos / 1e9;
  return `0.${String(nanos).padStart(9, '0').replace(/0+$/, '')}`;
}

/** True or false; a value of another type counts as false. */
function flag(value, field, refused) {
  if (isMissing(value)) return false;
  if (typeof value !== 'boolean') refused.push(field);
  return value === true;
}

/** One of the closed set, or undefined. */
function errorType(value, field, refused) {
  if (isMissing(value) || value === '') return undefined;
  if (typeof value !== 'string') {
    refused.push(field);
    return undefined;
  }
  return ERROR_TYPES.has(value) ? value : 'other';
}

/** The total that was given, or what its parts add up to where at least one of them is there. */
function totalTokens(given, prompt, completion) {
  if (given !== undefined) return given;
  if (prompt === undefined && completion === undefined) return undefined;
  const total = (prompt ?? 0) + (completion ?? 0);
  return Number.isSafeInteger(total) ? total : undefined;
}

/** `|#` and the tags that have a value, or nothing. */
function tags(...pairs) {
  const present = pairs.filter((pair) => pair !== '');
  return present.length === 0 ? '' : `|#${present.join(',')}`;
}

function line(name, value, type, labels) {
  return value === undefined ? '' : `\n${name}:${value}|${type}${labels}`;
}

/** All lines of a readable event, in the order of the contract. */
function linesOf(event, refused) {
  const model = label(event.model, 'model', refused);
  const operation = label(event.operation, 'operation', refused);
  const modelPair = model === undefined ? '' : `model:${model}`;
  const ofModel = modelPair && `|#${modelPair}`;
  const ofCall = operation === undefined ? ofModel : tags(modelPair, `operation:${operation}`);

  const seconds = (field) => milliseconds(event[field], field, refused);
  const tokens = count(event.tokens, 'tokens', refused);
  const prompt = count(event.promptTokens, 'promptTokens', refused);
  const completion = count(event.completionTokens, 'completionTokens', refused);
  const cached = count(event.cachedTokens, 'cachedTokens', refused);
  const error = errorType(event.error, 'error', refused);
  const rateLimited = flag(event.rateLimited, 'rateLimited', refused) || error === 'rate_limit';
  const type = error ?? (rateLimited ? 'rate_limit' : undefined);

  return (
    `llm_request_total:1|c${ofCall}` +
    line('llm_request_duration_seconds', seconds('durationSeconds'), 'ms', ofCall) +
    line('llm_tokens_total', totalTokens(tokens, prompt, completion), 'c', ofModel) +
    line('llm_prompt_tokens_total', prompt, 'c', ofModel) +
    line('llm_completion_tokens_total', completion, 'c', ofModel) +
    line('llm_cached_tokens_total', cached, 'c', ofModel) +
    line(
      'llm_cost_dollars_total',
      dollars(event.costDollars, 'costDollars', refused),
      'c',
      ofModel,
    ) +
    line('llm_model_load_duration_seconds', seconds('loadDurationSeconds'), 'ms', ofModel) +
    line('llm_prompt_eval_duration_seconds', seconds('promptEvalDurationSeconds'), 'ms', ofModel) +
    line('llm_total_duration_seconds', seconds('totalDurationSeconds'), 'ms', ofModel) +
    line('llm_time_to_first_token_seconds', seconds('timeToFirstTokenSeconds'), 'ms', ofCall) +
    line('llm_time_per_output_token_seconds', seconds('timePerOutputTokenSeconds'), 'ms', ofCall) +
    (type === undefined ? '' : `\nllm_error_total:1|c${tags(modelPair, `type:${type}`)}`) +
    (rateLimited ? `\nllm_rate_limit_exceeded_total:1|c${ofModel}` : '') +
    (flag(event.fallback, 'fallback', refused) ? '\nllm_fallback_total:1|c' : '')
  );
}

/**
 * The lines of an event, joined by LF, and the names of the fields that were refused.
 * Takes any object, and never throws.
 */
function encodeLines(event) {
  const refused = [];
  try {
    return { lines: linesOf(event, refused), refused };
  } catch {
    refused.length = 0;
    return { lines: linesOf(copyFields(event), refused), refused };
  }
}

/** Lines in as few datagrams as they fit in; a line that is too long for any has one for itself. */
function cut(lines, maxBytes) {
  if (Buffer.byteLength(lines) <= maxBytes) return [lines];
  const datagrams = [];
  let bytes = 0;
  for (const next of lines.split('\n')) {
    const more = Buffer.byteLength(next);
    if (bytes === 0 || bytes + 1 + more > maxBytes) {
      datagrams.push(next);
      bytes = more;
    } else {
      datagrams[datagrams.length - 1] += `\n${next}`;
      bytes += 1 + more;
    }
  }
  return datagrams;
}

/** An event as datagrams, and the names of the fields that were refused. */
function encode(event, maxDatagramBytes = MAX_DATAGRAM_BYTES) {
  const { lines, refused } = encodeLines(event);
  return { datagrams: cut(lines, maxDatagramBytes), refused };
}

module.exports = { MAX_DATAGRAM_BYTES, copyFields, cut, encode, encodeLines };
