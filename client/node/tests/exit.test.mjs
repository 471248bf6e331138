// What leaves a process that ends, and what keeps it from ending.

import assert from 'node:assert/strict';
import test from 'node:test';

import { listen, run } from './support.mjs';

/** The end of a program that has `client` and `model`, and what the server got of it. */
async function ended(t, program, ...options) {
  const server = await listen(t);
  const environment = { LLMSTATSD_HOST: '127.0.0.1', LLMSTATSD_PORT: String(server.port) };
  const prelude = "const { Client } = require('llmstatsd-client');";
  const end = await run(prelude + program, environment, ...options);
  return { ...end, server };
}

test('no timer and no socket of a client keeps the process alive', async (t) => {
  const { stdout, server } = await ended(
    t,
    `new Client({ buffered: true }).send({});
     new Client().send({});
     console.log(process.getActiveResourcesInfo().filter((name) => /Timeout|UDP/.test(name)));`,
  );
  assert.equal(stdout, '[]\n');
  await server.received(2);
});

test('a disabled client does not warn of a unix socket', async () => {
  const { stderr } = await run(
    "new (require('llmstatsd-client').Client)({ disabled: true }).send({});",
    { LLMSTATSD_SOCKET: '/var/run/llmstatsd.sock' },
  );
  assert.equal(stderr, '');
});

test('an open client lets the process end', async (t) => {
  const { code, server } = await ended(t, "new Client().send({ model: 'm' });");
  assert.equal(code, 0);
  assert.equal((await server.received(1)).length, 1);
});

const LEAVES = {
  'a process that has nothing more to do': [0, ''],
  'process.exit': [3, 'process.exit(3);'],
  'an error that nobody catches': [1, "throw new Error('no');"],
};

for (const [name, [expected, program]] of Object.entries(LEAVES)) {
  for (const buffered of [false, true]) {
    test(`${name} loses no ${buffered ? 'buffered' : 'unbuffered'} event`, async (t) => {
      const { code, server } = await ended(
        t,
        `const client = new Client({ buffered: ${buffered} });
         for (const model of ['a', 'b', 'c']) client.send({ model });
         ${program}`,
      );
      assert.equal(code, expected);
      const datagrams = await server.received(buffered ? 1 : 3);
      assert.equal(datagrams.join('\n').split('\n').length, 3);
    });
  }
}

test('a process that has nothing more to do waits for a name', async (t) => {
  const { code, server } = await ended(
    t,
    "new Client({ host: 'localhost', port: Number(process.env.LLMSTATSD_PORT), buffered: true }).send({});",
  );
  assert.equal(code, 0);
  assert.equal((await server.received(1)).length, 1);
});

test('many buffered clients raise no warning', async (t) => {
  const { stderr, server } = await ended(
    t,
    'for (let made = 0; made < 50; made += 1) new Client({ buffered: true }).send({});',
  );
  assert.equal(stderr, '');
  assert.equal((await server.received(50)).length, 50);
});

test('close can be awaited at the end of a module', async (t) => {
  const server = await listen(t);
  const { code, stdout } = await run(
    `import { Client } from 'llmstatsd-client';
     const client = new Client({ port: ${server.port} });
     client.send({});
     await client.close();
     console.log(client.stats().sentDatagrams);`,
    {},
    '--input-type=module',
  );
  assert.deepEqual([code, stdout], [0, '1\n']);
  assert.equal((await server.received(1)).length, 1);
});

test('worker threads each have their own client', async (t) => {
  const { code, server } = await ended(
    t,
    `const { Worker } = require('node:worker_threads');
     const program = "const { Client } = require('llmstatsd-client');" +
       "new Client({ buffered: true }).send({ model: 'thread' });";
     for (let started = 0; started < 3; started += 1) new Worker(program, { eval: true });
     new Client({ buffered: true }).send({ model: 'main' });`,
  );
  assert.equal(code, 0);
  const models = (await server.received(4)).map((datagram) => datagram.split(':').at(-1));
  assert.deepEqual(models.sort(), ['main', 'thread', 'thread', 'thread']);
});

test('workers of a cluster each have their own client', async (t) => {
  const { code, stderr, server } = await ended(
    t,
    `const cluster = require('node:cluster');
     cluster.setupPrimary({ exec: './tests/cluster-worker.cjs', execArgv: [] });
     for (let forked = 0; forked < 2; forked += 1) cluster.fork();
     cluster.on('exit', (worker, code) => { if (code !== 0) process.exitCode = 1; });`,
  );
  assert.equal(code, 0, stderr);
  assert.equal((await server.received(2)).length, 2);
});
