import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import test from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import * as esm from 'llmstatsd-client';
import { badInputs, listen, setEnvironment, vector, waitFor } from './support.mjs';

const { Client } = esm;

const UNUSED = {
  events: 0,
  refusedFields: 0,
  closedEvents: 0,
  sentDatagrams: 0,
  sentBytes: 0,
  droppedFull: 0,
  droppedUnresolved: 0,
  droppedUnreachable: 0,
  droppedError: 0,
};

/** A client and the server that it sends to; both end with the test. */
async function connected(t, options) {
  const server = await listen(t);
  const client = new Client({ host: server.host, port: server.port, ...options });
  t.after(() => client.close());
  return { client, server };
}

test('both module systems give the same classes and functions', () => {
  const commonjs = createRequire(import.meta.url)('llmstatsd-client');
  assert.deepEqual(Object.keys(commonjs).sort(), ['Client', 'classify', 'encode', 'usage']);
  for (const [name, value] of Object.entries(commonjs)) assert.equal(esm[name], value);
});

test('one call is one datagram', async (t) => {
  const { client, server } = await connected(t);
  const { event, datagrams } = vector('a failed call with all fields');
  client.send(event);
  assert.deepEqual(await server.received(1), datagrams);
  assert.deepEqual(client.stats(), {
    ...UNUSED,
    events: 1,
    sentDatagrams: 1,
    sentBytes: datagrams[0].length,
  });
});

test('a call over one datagram is cut between lines', async (t) => {
  const { client, server } = await connected(t, { maxDatagramBytes: 60 });
  const { event, datagrams } = vector('one line for each datagram');
  client.send(event);
  assert.deepEqual(await server.received(3), datagrams);
});

test('send without an event is a finished call', async (t) => {
  const { client, server } = await connected(t);
  client.send();
  assert.deepEqual(await server.received(1), ['llm_request_total:1|c']);
});

test('send never throws, and every input is counted', async (t) => {
  const inputs = badInputs();
  const isObject = (value) => value !== null && ['object', 'function'].includes(typeof value);
  for (const buffered of [false, true]) {
    const { client } = await connected(t, { buffered });
    for (const [name, input] of Object.entries(inputs)) {
      assert.equal(client.send(input), undefined, name);
    }
    await client.close();
    const { events, refusedFields, droppedError } = client.stats();
    assert.equal(events, Object.values(inputs).filter(isObject).length);
    assert.ok(refusedFields > 20);
    assert.equal(droppedError, 0);
  }
});

test('options never make the constructor throw', async () => {
  for (const [name, input] of Object.entries(badInputs())) {
    const client = new Client(input);
    await client.close();
    assert.deepEqual(client.stats(), UNUSED, name);
  }
});

test('a destination that is none counts every datagram as unresolved', async () => {
  for (const options of [{ port: 0 }, { port: 70_000 }, { host: 5 }]) {
    const client = new Client(options);
    client.send({ model: 'm' });
    await client.close();
    assert.deepEqual(client.stats(), { ...UNUSED, events: 1, droppedUnresolved: 1 });
  }
});

test('the environment names the destination', async (t) => {
  const server = await listen(t);
  setEnvironment(t, { LLMSTATSD_HOST: server.host, LLMSTATSD_PORT: String(server.port) });
  const client = new Client();
  client.send({ model: 'm' });
  await client.close();
  assert.equal((await server.received(1)).length, 1);
});

test('a unix socket cannot be sent to: a drop for each event, one warning for all', async (t) => {
  setEnvironment(t, { LLMSTATSD_SOCKET: '/var/run/llmstatsd.sock' });
  const warnings = [];
  const note = (warning) => warnings.push(warning);
  process.on('warning', note);
  t.after(() => process.off('warning', note));
  for (let made = 0; made < 2; made += 1) {
    const client = new Client();
    client.send({ model: 'm' });
    await client.close();
    assert.deepEqual(client.stats(), { ...UNUSED, events: 1, droppedError: 1 });
  }
  await waitFor('the warning', () => warnings.length > 0);
  assert.deepEqual(
    warnings.map(({ code }) => code),
    ['LLMSTATSD_SOCKET'],
  );
});

test('a disabled client counts events, and sends nothing', async (t) => {
  const { client, server } = await connected(t, { disabled: true });
  client.send({ model: 'm', tokens: -1 });
  await client.close();
  assert.deepEqual(client.stats(), { ...UNUSED, events: 1 });
  assert.deepEqual(server.datagrams, []);
});

test('a closed client counts events, and sends nothing', async (t) => {
  const { client, server } = await connected(t);
  client.send({ model: 'before' });
  await client.close();
  client.send({ model: 'after' });
  await client.flush();
  await client.close();
  assert.deepEqual(await server.received(1), ['llm_request_total:1|c|#model:before']);
  const { events, closedEvents, sentDatagrams } = client.stats();
  assert.deepEqual([events, closedEvents, sentDatagrams], [2, 1, 1]);
});

test('stats are a copy', async (t) => {
  const { client } = await connected(t);
  client.stats().events = 5;
  assert.deepEqual(client.stats(), UNUSED);
});

test('buffered events share datagrams, cut where the next does not fit', async (t) => {
  const line = 'llm_request_total:1|c|#model:m';
  const { client, server } = await connected(t, {
    buffered: true,
    maxDatagramBytes: 2 * line.length + 1,
  });
  for (let sent = 0; sent < 5; sent += 1) client.send({ model: 'm' });
  assert.deepEqual(await server.received(2), [`${line}\n${line}`, `${line}\n${line}`]);
  await client.flush();
  assert.equal((await server.received(3))[2], line);
  const { events, sentDatagrams } = client.stats();
  assert.deepEqual([events, sentDatagrams], [5, 3]);
});

test('the line end between buffered events counts', async (t) => {
  const line = 'llm_request_total:1|c|#model:m';
  const { client, server } = await connected(t, {
    buffered: true,
    maxDatagramBytes: 2 * line.length,
  });
  for (let sent = 0; sent < 2; sent += 1) client.send({ model: 'm' });
  await client.close();
  assert.deepEqual(await server.received(2), [line, line]);
});

test('a buffered event over one datagram is cut between lines', async (t) => {
  const { client, server } = await connected(t, { buffered: true, maxDatagramBytes: 60 });
  const { event, datagrams } = vector('one line for each datagram');
  client.send(event);
  await client.close();
  assert.deepEqual(await server.received(3), datagrams);
});

test('buffered lines leave by themselves', async (t) => {
  const { client, server } = await connected(t, { buffered: true });
  for (const model of ['a', 'b', 'ü']) client.send({ model });
  assert.equal(client.stats().sentDatagrams, 0);
  const [datagram] = await server.received(1);
  assert.deepEqual(
    datagram.split('\n').map((line) => line.slice(-7)),
    ['model:a', 'model:b', 'model:ü'],
  );
  client.send({ model: 'c' });
  assert.equal((await server.received(2))[1], 'llm_request_total:1|c|#model:c');
});

test('close flushes', async (t) => {
  const { client, server } = await connected(t, { buffered: true });
  client.send({ model: 'm' });
  assert.equal(client.close(), client.close());
  await client.close();
  assert.equal((await server.received(1)).length, 1);
  assert.equal(client.stats().sentDatagrams, 1);
});

test('a client that was closed can be collected', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  const server = await listen(t);
  const reference = await (async () => {
    const client = new Client({ port: server.port, buffered: true });
    client.send({ model: 'm' });
    await client.close();
    return new WeakRef(client);
  })();
  await waitFor('the collection', () => {
    collect();
    return reference.deref() === undefined;
  });
});
