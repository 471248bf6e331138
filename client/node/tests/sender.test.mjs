import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { EventEmitter } from 'node:events';
import test from 'node:test';

import senderModule from '../lib/sender.js';
import { listen, unusedPort, waitFor } from './support.mjs';

const { Sender } = senderModule;

const NOTHING = {
  sentDatagrams: 0,
  sentBytes: 0,
  droppedFull: 0,
  droppedUnresolved: 0,
  droppedUnreachable: 0,
  droppedError: 0,
};
const ONE = Buffer.from('a:1|c');

/** A name server under the test's control, and a clock beside it. */
function fakeNames() {
  const names = {
    asked: [],
    answered: 0,
    milliseconds: 0,
    answer: [{ address: '127.0.0.1', family: 4 }],
  };
  names.resolving = {
    now: () => names.milliseconds,
    lookup(host, options, done) {
      names.asked.push(host);
      const answer = names.answer;
      setImmediate(() => {
        names.answered += 1;
        if (answer) done(null, answer);
        else done(new Error('ENOTFOUND'));
      });
    },
  };
  return names;
}

/** A sender that ends with the test. */
function sender(t, host, port, names) {
  const made = new Sender({ kind: 'udp', host, port }, names?.resolving);
  t.after(() => made.close());
  return made;
}

async function sendOne(to) {
  to.send(ONE);
  await to.idle();
}

test('a datagram that was sent is counted with its bytes', async (t) => {
  const server = await listen(t);
  const to = sender(t, server.host, server.port);
  await sendOne(to);
  assert.deepEqual(await server.received(1), ['a:1|c']);
  assert.deepEqual(to.counts(), { ...NOTHING, sentDatagrams: 1, sentBytes: 5 });
});

test('an address of IPv6 is sent to', async (t) => {
  const server = await listen(t, '::1').catch(() => undefined);
  if (!server) return t.skip('this machine has no IPv6 on loopback');
  await sendOne(sender(t, '::1', server.port));
  assert.deepEqual(await server.received(1), ['a:1|c']);
});

test('an address is never looked up', async (t) => {
  const server = await listen(t);
  const names = fakeNames();
  await sendOne(sender(t, '127.0.0.1', server.port, names));
  assert.deepEqual(names.asked, []);
  await server.received(1);
});

test('the system looks up a name', async (t) => {
  const server = await listen(t);
  await sendOne(sender(t, 'localhost', server.port));
  assert.deepEqual(await server.received(1), ['a:1|c']);
});

test('datagrams wait for the first answer, in their order', async (t) => {
  const server = await listen(t);
  const names = fakeNames();
  const to = sender(t, 'somewhere', server.port, names);
  for (const text of ['a', 'b', 'c']) to.send(Buffer.from(text));
  assert.deepEqual(to.counts(), NOTHING);
  assert.deepEqual(await server.received(3), ['a', 'b', 'c']);
  assert.deepEqual(names.asked, ['somewhere']);
});

test('IPv4 is preferred', async (t) => {
  const server = await listen(t);
  const names = fakeNames();
  names.answer = [
    { address: '::1', family: 6 },
    { address: '127.0.0.1', family: 4 },
  ];
  await sendOne(sender(t, 'both', server.port, names));
  assert.deepEqual(await server.received(1), ['a:1|c']);
});

test('a name is looked up again after 60 s, and the new address is used', async (t) => {
  const server = await listen(t, '127.0.0.2');
  const names = fakeNames();
  const to = sender(t, 'moves', server.port, names);
  await sendOne(to);
  names.answer = [{ address: '127.0.0.2', family: 4 }];
  names.milliseconds = 59_999;
  await sendOne(to);
  assert.equal(names.asked.length, 1);
  names.milliseconds = 60_000;
  await waitFor('a datagram at the new address', () => {
    to.send(ONE);
    return server.datagrams.length > 0;
  });
  assert.equal(names.asked.length, 2);
});

test('the last address stays in force when a later look-up fails', async (t) => {
  const server = await listen(t);
  const names = fakeNames();
  const to = sender(t, 'flaky', server.port, names);
  await sendOne(to);
  names.answer = undefined;
  names.milliseconds = 60_000;
  await sendOne(to);
  await waitFor('the second answer', () => names.answered === 2);
  await sendOne(to);
  assert.equal((await server.received(3)).length, 3);
});

test('a name that does not resolve drops what waits, and is asked for again after a second', async (t) => {
  const server = await listen(t);
  const names = fakeNames();
  const to = sender(t, 'later', server.port, names);
  names.answer = undefined;
  to.send(ONE);
  await sendOne(to);
  await sendOne(to);
  assert.deepEqual(to.counts(), { ...NOTHING, droppedUnresolved: 3 });
  assert.equal(names.asked.length, 1);

  names.answer = [{ address: '127.0.0.1', family: 4 }];
  names.milliseconds = 1_000;
  await sendOne(to);
  assert.equal((await server.received(1)).length, 1);
  assert.equal(names.asked.length, 2);
});

test('a host that cannot even be asked for is unresolved', async (t) => {
  for (const host of ['a\0b', 'x'.repeat(100_000), 'name.invalid']) {
    const to = sender(t, host, 8125);
    await sendOne(to);
    assert.deepEqual(to.counts(), { ...NOTHING, droppedUnresolved: 1 });
  }
});

test('when nobody listens, every datagram is counted once and nothing is thrown', async (t) => {
  const to = sender(t, '127.0.0.1', await unusedPort());
  for (let round = 0; round < 20; round += 1) {
    to.send(ONE);
    await sendOne(to);
  }
  const { sentDatagrams, droppedUnreachable, ...others } = to.counts();
  assert.equal(sentDatagrams + droppedUnreachable, 40);
  assert.equal(others.droppedError + others.droppedFull + others.droppedUnresolved, 0);
});

test('a datagram that is too large is an error, and the next one opens the socket again', async (t) => {
  const server = await listen(t);
  const to = sender(t, server.host, server.port);
  to.send(Buffer.alloc(70_000));
  await to.idle();
  await sendOne(to);
  assert.deepEqual(await server.received(1), ['a:1|c']);
  assert.deepEqual(to.counts(), { ...NOTHING, sentDatagrams: 1, sentBytes: 5, droppedError: 1 });
});

test('more than 10,000 under way are dropped as full', async (t) => {
  const server = await listen(t);
  const to = sender(t, server.host, server.port);
  for (let sent = 0; sent < 10_007; sent += 1) to.send(ONE);
  await to.idle();
  await sendOne(to);
  const { sentDatagrams, droppedFull } = to.counts();
  assert.deepEqual([sentDatagrams, droppedFull], [10_001, 7]);
});

test('no more than 10,000 wait for a name', async (t) => {
  const names = fakeNames();
  names.answer = undefined;
  const to = sender(t, 'slow', 8125, names);
  for (let sent = 0; sent < 10_007; sent += 1) to.send(ONE);
  await to.idle();
  const { droppedUnresolved, droppedFull } = to.counts();
  assert.deepEqual([droppedUnresolved, droppedFull], [10_000, 7]);
});

test('close gives up on a name server that does not answer', async (t) => {
  const to = new Sender({ kind: 'udp', host: 'silent', port: 8125 }, { lookup() {} });
  to.send(ONE);
  await to.close();
  assert.deepEqual(to.counts(), { ...NOTHING, droppedUnresolved: 1 });
});

/** Sockets whose sends end as `outcomes` say, one after the other, each a code or undefined. */
function fakeSockets(t, ...outcomes) {
  const sockets = [];
  const { createSocket } = dgram;
  t.after(() => {
    dgram.createSocket = createSocket;
  });
  dgram.createSocket = () => {
    const socket = new EventEmitter();
    sockets.push(socket);
    return Object.assign(socket, {
      unref() {},
      close() {},
      remoteAddress() {},
      connect() {},
      send(datagram, done) {
        const code = outcomes.shift();
        process.nextTick(done, code && Object.assign(new Error(code), { code }));
      },
    });
  };
  return sockets;
}

test('a refused datagram is sent again once', async (t) => {
  fakeSockets(t, 'ECONNREFUSED', undefined);
  const to = sender(t, '127.0.0.1', 8125);
  await sendOne(to);
  assert.deepEqual(to.counts(), { ...NOTHING, sentDatagrams: 1, sentBytes: 5 });
});

test('a datagram that is refused twice is unreachable', async (t) => {
  const sockets = fakeSockets(t, 'ECONNREFUSED', 'ECONNREFUSED', undefined);
  const to = sender(t, '127.0.0.1', 8125);
  await sendOne(to);
  assert.deepEqual(to.counts(), { ...NOTHING, droppedUnreachable: 1 });
  await sendOne(to);
  assert.equal(to.counts().sentDatagrams, 1);
  assert.equal(sockets.length, 1);
});

test('a full socket drops and stays open', async (t) => {
  const sockets = fakeSockets(t, 'ENOBUFS', 'EAGAIN', undefined);
  const to = sender(t, '127.0.0.1', 8125);
  for (let sent = 0; sent < 3; sent += 1) await sendOne(to);
  assert.deepEqual(to.counts(), { ...NOTHING, droppedFull: 2, sentDatagrams: 1, sentBytes: 5 });
  assert.equal(sockets.length, 1);
});

test('after any other error the socket is opened again and the name looked up', async (t) => {
  const sockets = fakeSockets(t, 'EPERM', undefined);
  const names = fakeNames();
  const to = sender(t, 'somewhere', 8125, names);
  await sendOne(to);
  assert.deepEqual(to.counts(), { ...NOTHING, droppedError: 1 });
  names.milliseconds = 1_000;
  await sendOne(to);
  assert.equal(to.counts().sentDatagrams, 1);
  assert.equal(sockets.length, 2);
  assert.equal(names.asked.length, 2);
});

test('an error of the reading side is never thrown', async (t) => {
  const sockets = fakeSockets(t);
  const to = sender(t, '127.0.0.1', 8125);
  for (const [code, opened] of [
    ['ECONNREFUSED', 1],
    ['EIO', 2],
  ]) {
    await sendOne(to);
    sockets[0].emit('error', Object.assign(new Error(code), { code }));
    await sendOne(to);
    assert.equal(sockets.length, opened);
  }
  assert.equal(to.counts().sentDatagrams, 4);
});

test('an address is not looked up after an error either', async (t) => {
  const sockets = fakeSockets(t, 'EPERM', undefined);
  const names = fakeNames();
  const to = sender(t, '127.0.0.1', 8125, names);
  await sendOne(to);
  names.milliseconds = 100_000;
  await sendOne(to);
  assert.deepEqual([sockets.length, names.asked], [2, []]);
});

test('a socket that cannot be opened or connected is an error', async (t) => {
  fakeSockets(t);
  const make = dgram.createSocket;
  const to = sender(t, '127.0.0.1', 8125);

  dgram.createSocket = () => {
    throw new Error('EMFILE');
  };
  await sendOne(to);
  assert.equal(to.counts().droppedError, 1);

  dgram.createSocket = () =>
    Object.assign(make(), {
      remoteAddress() {
        throw new Error('not connected');
      },
      connect: (port, address, done) => process.nextTick(done, new Error('ENETUNREACH')),
    });
  await sendOne(to);
  assert.equal(to.counts().droppedError, 2);
});

test('datagrams wait for a socket that connects later', async (t) => {
  fakeSockets(t);
  const make = dgram.createSocket;
  let connected = false;
  dgram.createSocket = () =>
    Object.assign(make(), {
      remoteAddress() {
        if (!connected) throw new Error('not connected');
      },
      connect(port, address, done) {
        setImmediate(() => {
          connected = true;
          done();
        });
      },
    });
  const to = sender(t, '127.0.0.1', 8125);
  to.send(ONE);
  await sendOne(to);
  assert.equal(to.counts().sentDatagrams, 2);
});

test('a socket that is given up while it connects sends nothing', async (t) => {
  const sockets = fakeSockets(t);
  const make = dgram.createSocket;
  dgram.createSocket = () => {
    const socket = make();
    return Object.assign(socket, {
      remoteAddress() {
        throw new Error('not connected');
      },
      connect(port, address, done) {
        Object.assign(socket, { address, done });
      },
    });
  };
  const names = fakeNames();
  const to = sender(t, 'moves', 8125, names);
  to.send(ONE);
  await waitFor('the first socket', () => sockets.length === 1);

  names.milliseconds = 60_000;
  names.answer = [{ address: '127.0.0.2', family: 4 }];
  to.send(ONE);
  await waitFor('the second socket', () => sockets.length === 2);
  sockets[0].done();
  await new Promise(setImmediate);
  assert.equal(to.counts().sentDatagrams, 0);

  sockets[1].done();
  await to.idle();
  assert.equal(to.counts().sentDatagrams, 2);
  assert.deepEqual(
    sockets.map(({ address }) => address),
    ['127.0.0.1', '127.0.0.2'],
  );
});
