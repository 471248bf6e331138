// CPU microseconds per event: encoding alone, and the whole of send() on loopback.
//
//     node bench.mjs [--events N]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';

import { Client, encode } from 'llmstatsd-client';

const { values } = parseArgs({ options: { events: { type: 'string', default: '100000' } } });
const EVENTS = Number(values.events);
const ROUNDS = 5;

/** Below what a client has under way at most, so that nothing is dropped. */
const BATCH = 1_000;

const FIVE_FIELDS = {
  model: 'gpt-4o',
  operation: 'chat',
  durationSeconds: 1.84,
  promptTokens: 200,
  completionTokens: 30,
};
const ALL_FIELDS = {
  ...FIVE_FIELDS,
  tokens: 230,
  cachedTokens: 128,
  costDollars: 0.0123,
  loadDurationSeconds: 0.5,
  promptEvalDurationSeconds: 0.12,
  totalDurationSeconds: 1.8,
  timeToFirstTokenSeconds: 0.3,
  timePerOutputTokenSeconds: 0.0375,
  error: 'timeout',
  rateLimited: true,
  fallback: true,
};

/** Calls differ, so the text of a number is never at hand from the one before. */
function* calls(fields) {
  for (let index = 0; index < EVENTS; index += 1) {
    fields.durationSeconds = 0.5 + index * 1e-5;
    fields.promptTokens = 200 + (index % 997);
    yield fields;
  }
}

function encodeAll(fields) {
  for (const call of calls(fields)) Buffer.from(encode(call).datagrams[0]);
}

async function sendAll(client, fields) {
  let left = BATCH;
  for (const call of calls(fields)) {
    client.send(call);
    left -= 1;
    if (left > 0) continue;
    await new Promise(setImmediate);
    left = BATCH;
  }
}

async function microseconds(work, fields) {
  const start = process.cpuUsage();
  await work(fields);
  const { user, system } = process.cpuUsage(start);
  return (user + system) / EVENTS;
}

/** The median of some rounds, with the least and the most; a first round warms the compiler up. */
async function measured(work, fields) {
  const rounds = [];
  for (let round = 0; round <= ROUNDS; round += 1) rounds.push(await microseconds(work, fields));
  const sorted = rounds.slice(1).sort((a, b) => a - b);
  const [least, median, most] = [0, ROUNDS >> 1, ROUNDS - 1].map((at) => sorted[at].toFixed(1));
  return `${median} (${least} to ${most})`;
}

async function report(name, work) {
  const columns = [
    await measured(work, { ...ALL_FIELDS }),
    await measured(work, { ...FIVE_FIELDS }),
  ];
  console.log(`| ${name} | ${columns.join(' | ')} |`);
}

/**
 * In another process, so that its work is not counted; the kernel throws away what it is too slow
 * for.
 */
const RECEIVER = `dgram.createSocket('udp4').bind(0, '127.0.0.1', function () {
  console.log(this.address().port);
});`;

async function startReceiver() {
  const receiver = spawn(process.execPath, ['-e', RECEIVER], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(receiver.stdout, 'data');
  return { receiver, port: Number(line) };
}

const { receiver, port } = await startReceiver();
try {
  console.log('| µs of CPU per event | all fields | five fields |\n|---|---|---|');
  await report('encode', encodeAll);
  for (const buffered of [false, true]) {
    const client = new Client({ port, buffered });
    await report(buffered ? 'send, buffered' : 'send', (fields) => sendAll(client, fields));
    await client.close();
    const { droppedFull, droppedError } = client.stats();
    if (droppedFull + droppedError > 0) throw new Error('datagrams were dropped');
  }
} finally {
  receiver.kill();
}
