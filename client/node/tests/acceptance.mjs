// Sends the same event many times to where the environment says, and prints the stats by the
// contract's names.
//
//     node tests/acceptance.mjs --threads 8 --calls 1000 [--buffered]
//
// A thread is a loop of its own in the one process.

import { readFileSync } from 'node:fs';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { Client } from 'llmstatsd-client';

const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: '1' },
    calls: { type: 'string', default: '1' },
    buffered: { type: 'boolean', default: false },
  },
});

const camelCase = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snakeCase = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const renamed = (object, rename) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [rename(name), value]));

const { cases } = JSON.parse(readFileSync(new URL('../../vectors.json', import.meta.url), 'utf8'));
const { event } = cases.find(({ name }) => name === 'a failed call with all fields');
const call = renamed(event, camelCase);

const client = new Client({ buffered: values.buffered });

/**
 * So that what was sent is out before more comes: flush() waits for that, but would empty the
 * buffer, too.
 */
const pace = values.buffered ? () => turn() : () => client.flush();

/**
 * The kernel takes datagrams faster than a daemon on a slow core, and drops what that has no room
 * for.
 */
const CALLS_PER_MILLISECOND = 2;

async function loop() {
  for (let sent = 0; sent < Number(values.calls); sent += 1) {
    client.send(call);
    await pace();
    if (sent % CALLS_PER_MILLISECOND === 0) await delay(1);
  }
}

await Promise.all(Array.from({ length: Number(values.threads) }, loop));
await client.close();
console.log(JSON.stringify(renamed(client.stats(), snakeCase)));
