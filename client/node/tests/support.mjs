// What the tests share: a server that keeps what it gets, and waiting with a deadline.

import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export const PACKAGE = new URL('..', import.meta.url);

const DEADLINE_MS = 30_000;
const POLL_MS = 5;

/** The first true result of `look`, polled until the deadline. */
export async function waitFor(what, look) {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = look();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await delay(POLL_MS);
  }
}

/** A UDP server on loopback; `datagrams` grows with what arrives. It ends with the test. */
export async function listen(test, address = '127.0.0.1') {
  const socket = dgram.createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const datagrams = [];
  socket.on('message', (bytes) => datagrams.push(bytes.toString()));
  socket.bind(0, address);
  await once(socket, 'listening');
  test.after(() => socket.close());
  const received = (count) =>
    waitFor(`${count} datagrams`, () => datagrams.length >= count).then(() => datagrams);
  return { host: address, port: socket.address().port, datagrams, received };
}

/** A port of loopback on which nobody listens. */
export async function unusedPort() {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

/**
 * Run a program that sees nothing of this environment but `variables`; resolved with its end and
 * output.
 */
export function run(program, variables = {}, ...options) {
  const settings = {
    cwd: PACKAGE,
    env: { PATH: process.env.PATH, ...variables },
    timeout: DEADLINE_MS,
  };
  return new Promise((resolve) => {
    execFile(process.execPath, [...options, '-e', program], settings, (error, stdout, stderr) =>
      resolve({ code: error ? error.code : 0, stdout, stderr }),
    );
  });
}

/**
 * Set environment variables until the test ends; those of every other destination are gone
 * meanwhile.
 */
export function setEnvironment(test, variables) {
  const before = { ...process.env };
  for (const name of Object.keys(process.env)) {
    if (/^(LLMSTATSD|DD|STATSD)_/.test(name)) delete process.env[name];
  }
  Object.assign(process.env, variables);
  test.after(() => {
    for (const name of Object.keys(variables)) delete process.env[name];
    Object.assign(process.env, before);
  });
}

const NUMBERS = { NaN, Infinity, '-Infinity': -Infinity };
const TEXTS = new Set(['model', 'operation', 'error']);

export function camelCase(name) {
  return name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}

/**
 * The contract's cases, their fields named as here, and the texts that stand for numbers made
 * numbers.
 */
export function vectors() {
  const file = new URL('../../vectors.json', import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')).cases.map((vector) => ({
    ...vector,
    refused: (vector.refused ?? []).map(camelCase),
    event: Object.fromEntries(
      Object.entries(vector.event).map(([name, value]) => [
        camelCase(name),
        !TEXTS.has(name) && Object.hasOwn(NUMBERS, value) ? NUMBERS[value] : value,
      ]),
    ),
  }));
}

export function vector(name) {
  return vectors().find((each) => each.name === name);
}

/** What nobody should send, by name; every one is made anew. */
export function badInputs() {
  const cyclic = {};
  cyclic.model = cyclic;
  const revocable = Proxy.revocable({}, {});
  revocable.revoke();
  const refuses = () => {
    throw new Error('no');
  };
  return {
    'a number': 5,
    'a text': 'model',
    'a BigInt': 5n,
    'a symbol': Symbol('model'),
    null: null,
    'a list': [1, 2],
    'a function': () => {},
    'an object without a prototype': Object.create(null),
    'a cyclic object': cyclic,
    'a revoked proxy': revocable.proxy,
    'a proxy that throws': new Proxy({}, { get: refuses, has: refuses, ownKeys: refuses }),
    'a getter that throws': {
      model: 'm',
      get tokens() {
        return refuses();
      },
    },
    'a getter that throws no error': {
      get model() {
        throw undefined;
      },
    },
    BigInts: { tokens: 5n, durationSeconds: 1n, costDollars: 1n, model: 1n, fallback: 1n },
    symbols: { model: Symbol('m'), tokens: Symbol('t'), error: Symbol('e'), rateLimited: Symbol() },
    'no numbers': { durationSeconds: NaN, tokens: -Infinity, costDollars: Infinity },
    'objects with odd conversions': { model: { toString: refuses }, tokens: { valueOf: refuses } },
    'boxed values': { model: new String('m'), tokens: new Number(5), fallback: new Boolean(true) },
    'lone surrogates': { model: '\ud800', operation: 'a\udfff\ud800b', error: '\udc00' },
    'texts of a megabyte': {
      model: '|'.repeat(2 ** 20),
      operation: '\ud83d\ude00'.repeat(2 ** 18),
      error: 'x'.repeat(2 ** 20),
    },
  };
}
