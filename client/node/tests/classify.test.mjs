import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { classify } from 'llmstatsd-client';
import { badInputs } from './support.mjs';

/** An error of a class with this name, which is a subclass of others with those. */
function named(...names) {
  let parent = Error;
  for (const name of names) {
    parent = { [name]: class extends parent {} }[name];
  }
  return new parent('no');
}

const withFields = (fields, error = new Error('no')) => Object.assign(error, fields);

const CASES = {
  'OpenAI: an error within a stream that says nothing': [
    named('OpenAIError', 'APIError'),
    'server_error',
  ],
  'Anthropic: a prompt that is too long': [
    withFields({ status: 400, message: '400 prompt is too long: 210000 tokens > 200000 maximum' }),
    'context_length',
  ],
  'Anthropic: no money left': [
    withFields({ message: 'Your credit balance is too low' }, named('BadRequestError')),
    'quota',
  ],
  'a message about something else that failed': [
    withFields({ status: 500, message: 'no quota: exceeded your current quota' }),
    'server_error',
  ],
  'OpenAI: too many requests': [
    withFields({ status: 429, code: 'rate_limit_exceeded' }, named('APIError', 'RateLimitError')),
    'rate_limit',
  ],
  'OpenAI: no money left is a 429, too': [
    withFields({ status: 429, code: 'insufficient_quota' }, named('APIError', 'RateLimitError')),
    'quota',
  ],
  'OpenAI: a prompt that is too long is a 400, too': [
    withFields(
      { status: 400, code: 'context_length_exceeded' },
      named('APIError', 'BadRequestError'),
    ),
    'context_length',
  ],
  'Azure: filtered': [
    withFields({ status: 400, code: 'content_filter' }, named('APIError', 'BadRequestError')),
    'content_filter',
  ],
  'OpenAI: a wrong key': [
    withFields(
      { status: 401, code: 'invalid_api_key', type: 'invalid_request_error' },
      named('APIError', 'AuthenticationError'),
    ),
    'auth',
  ],
  'OpenAI: an unknown model': [
    withFields({ status: 404, code: 'model_not_found' }, named('APIError', 'NotFoundError')),
    'not_found',
  ],
  'OpenAI: stopped by the application': [named('APIError', 'APIUserAbortError'), 'cancelled'],
  'OpenAI: a timeout, which is a connection error, too': [
    named('APIError', 'APIConnectionError', 'APIConnectionTimeoutError'),
    'timeout',
  ],
  'OpenAI: no connection': [named('APIError', 'APIConnectionError'), 'connection'],
  'OpenAI: overloaded is a class of server errors': [
    withFields({ status: 503 }, named('APIError', 'InternalServerError')),
    'overloaded',
  ],
  'OpenAI: a server error': [
    withFields({ status: 500 }, named('APIError', 'InternalServerError')),
    'server_error',
  ],
  'Anthropic: overloaded': [
    withFields({ status: 529 }, named('APIError', 'InternalServerError')),
    'overloaded',
  ],
  'Anthropic: an error within a stream': [
    withFields(
      { error: { type: 'error', error: { type: 'overloaded_error' } } },
      named('APIError'),
    ),
    'overloaded',
  ],
  'Ollama: an unknown model': [
    withFields({ status_code: 404 }, named('ResponseError')),
    'not_found',
  ],
  'Bedrock: throttled': [withFields({ name: 'ThrottlingException' }), 'rate_limit'],
  'Bedrock: only a status': [withFields({ $metadata: { httpStatusCode: 424 } }), 'server_error'],
  'AI SDK: no JSON': [withFields({ name: 'AI_JSONParseError' }), 'invalid_response'],
  'axios: a status': [
    withFields({ code: 'ERR_BAD_REQUEST', response: { status: 403 } }),
    'permission',
  ],
  'axios: cancelled': [withFields({ code: 'ERR_CANCELED' }), 'cancelled'],
  'a class of the application': [named('APITimeoutError', 'TimeoutError', 'MyError'), 'timeout'],
  'fetch: aborted': [new DOMException('stopped', 'AbortError'), 'cancelled'],
  'fetch: AbortSignal.timeout': [new DOMException('slow', 'TimeoutError'), 'timeout'],
  'fetch: refused': [
    new TypeError('fetch failed', { cause: withFields({ code: 'ECONNREFUSED' }) }),
    'connection',
  ],
  'fetch: no answer': [
    new TypeError('fetch failed', { cause: withFields({ code: 'UND_ERR_HEADERS_TIMEOUT' }) }),
    'timeout',
  ],
  'the system: no answer': [withFields({ code: 'ETIMEDOUT' }), 'timeout'],
  'the system: an unknown name': [withFields({ code: 'ENOTFOUND' }), 'connection'],
  'an answer that is no JSON': [new SyntaxError('no'), 'invalid_response'],
  'a plain object': [{ status: 429 }, 'rate_limit'],
  'an error of no known kind': [new RangeError('no'), 'other'],
  'a name that every object has': [withFields({ name: 'constructor', code: '__proto__' }), 'other'],
  nothing: [undefined, 'other'],
};

const shared = JSON.parse(readFileSync(new URL('../../errors.json', import.meta.url), 'utf8'));

test('every status has the type that it has in all languages', () => {
  assert.ok(shared.statuses.length >= 500);
  for (const { status, type } of shared.statuses) {
    for (const fields of [{ status }, { statusCode: status }, { response: { status } }]) {
      assert.equal(classify(withFields(fields)), type ?? 'other', JSON.stringify(fields));
    }
  }
});

test('every code has the type that it has in all languages, alone and with a status', () => {
  assert.ok(shared.codes.length >= 20 && shared.both.length >= 50);
  for (const { status, code, type } of [...shared.codes, ...shared.both]) {
    for (const said of [{ code }, { type: code }, { error: { error: { type: code } } }]) {
      const fields = { status, ...said };
      assert.equal(classify(withFields(fields)), type ?? 'other', JSON.stringify(fields));
    }
  }
});

test('every message has the type that it has in all languages', () => {
  assert.ok(shared.messages.length >= 15);
  for (const { status, message, type } of shared.messages) {
    assert.equal(classify(withFields({ status, message })), type ?? 'other', message);
  }
});

test('the type of an error', async (t) => {
  for (const [name, [error, type]] of Object.entries(CASES)) {
    await t.test(name, () => assert.equal(classify(error), type));
  }
});

test('an error that is its own cause is other', () => {
  const error = new Error('no');
  error.cause = error;
  assert.equal(classify(error), 'other');
});

test('a chain of classes without an end is other', () => {
  const endless = new Proxy({}, { getPrototypeOf: () => endless });
  assert.equal(classify(endless), 'other');
});

test('anything may be classified', () => {
  for (const [name, input] of Object.entries(badInputs())) {
    assert.equal(classify(input), 'other', name);
  }
});
