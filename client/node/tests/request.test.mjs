import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import test from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { Client } from 'llmstatsd-client';
import { badInputs, listen, waitFor } from './support.mjs';

/** A datagram as an object: the series' names and their values, and the tags of the first line. */
function parsed(datagram) {
  const lines = datagram
    .split('\n')
    .map((line) => /^([a-z_]+):([^|]*)\|[a-z]+(?:\|#(.*))?$/.exec(line));
  const values = Object.fromEntries(
    lines.map(([, name, value, tags]) =>
      name === 'llm_error_total' ? [name, /type:(\w+)/.exec(tags)[1]] : [name, Number(value)],
    ),
  );
  return { tags: lines[0][3], ...values };
}

/** A client, and `counted(n)`: the first n events that its server got. */
async function connected(t) {
  const server = await listen(t);
  const client = new Client({ host: server.host, port: server.port });
  t.after(() => client.close());
  const counted = async (count) => {
    const datagrams = await server.received(count);
    assert.equal(client.stats().events, count);
    return datagrams.map(parsed);
  };
  return { client, counted };
}

/**
 * Hands out some chunks, then throws `error` if there is one; `closed` tells of a reader that broke
 * off.
 */
function source(chunks, error) {
  const made = { closed: false };
  made[Symbol.asyncIterator] = async function* () {
    try {
      yield* chunks;
      if (error) throw error;
    } finally {
      made.closed = true;
    }
  };
  return made;
}

function exposeCollector() {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc');
}

const CHAT = { model: 'm', operation: 'chat' };
const TAGS = 'model:m,operation:chat';

test('a call that ends well gives its result and is counted with its duration', async (t) => {
  const { client, counted } = await connected(t);
  const result = {};
  assert.equal(await client.request(CHAT, async () => result), result);
  const [call] = await counted(1);
  assert.deepEqual(Object.keys(call), [
    'tags',
    'llm_request_total',
    'llm_request_duration_seconds',
  ]);
  assert.equal(call.tags, TAGS);
});

test('work that is not asynchronous is counted, too', async (t) => {
  const { client, counted } = await connected(t);
  assert.equal(await client.request(CHAT, () => 5), 5);
  await counted(1);
});

test('a call that fails throws its own error and is counted once with its type', async (t) => {
  const { client, counted } = await connected(t);
  const error = Object.assign(new Error('slow down'), { status: 429 });
  const thrown = client.request(CHAT, async () => {
    throw error;
  });
  await assert.rejects(thrown, (reason) => reason === error);
  const [call] = await counted(1);
  assert.equal(call.llm_error_total, 'rate_limit');
  assert.equal(call.llm_rate_limit_exceeded_total, 1);
  assert.equal(call.llm_request_total, 1);
});

test('what is thrown may be anything', async (t) => {
  const { client, counted } = await connected(t);
  const inputs = { ...badInputs(), nothing: undefined };
  for (const [name, input] of Object.entries(inputs)) {
    let caught = {};
    await client
      .request(CHAT, () => {
        throw input;
      })
      .catch((reason) => {
        caught = reason;
      });
    assert.ok(Object.is(caught, input), name);
  }
  const calls = await counted(Object.keys(inputs).length);
  assert.deepEqual([...new Set(calls.map((call) => call.llm_error_total))], ['other']);
});

test('what is given may be anything', async (t) => {
  const { client, counted } = await connected(t);
  const inputs = Object.entries(badInputs());
  for (const [name, input] of inputs) {
    const work = (call) => {
      call.set(input);
      call.set({ operation: 'chat' });
      return { held: input };
    };
    assert.ok(Object.is((await client.request(input, work)).held, input), name);
  }
  await counted(inputs.length);
});

test('the result may be anything', async (t) => {
  const { client, counted } = await connected(t);
  // An async function itself reads `then` of its result, and rejects if that throws.
  const inputs = Object.entries(badInputs()).filter(([name]) => !/proxy/.test(name));
  for (const [name, input] of inputs) {
    assert.ok(Object.is(await client.request(CHAT, () => input), input), name);
  }
  await counted(inputs.length);
});

test('work that is no function fails as it would without a client', async (t) => {
  const { client, counted } = await connected(t);
  await assert.rejects(client.request(CHAT, undefined), TypeError);
  assert.equal((await counted(1))[0].llm_error_total, 'other');
});

test('a result that is a response gives the tokens', async (t) => {
  const { client, counted } = await connected(t);
  await client.request(CHAT, async () => ({
    usage: { prompt_tokens: 20, completion_tokens: 3, total_tokens: 23 },
  }));
  const [call] = await counted(1);
  assert.equal(call.llm_tokens_total, 23);
  assert.equal(call.llm_prompt_tokens_total, 20);
});

test('what is set stands against what is seen or measured', async (t) => {
  const { client, counted } = await connected(t);
  const work = async (call) => {
    call.set({ tokens: 5, durationSeconds: 2, fallback: true });
    call.set({ model: 'n', tokens: 6, fallback: null });
    call.set(undefined);
    return { usage: { total_tokens: 23, prompt_tokens: 20 } };
  };
  await client.request(CHAT, work);
  assert.deepEqual(await counted(1), [
    {
      tags: 'model:n,operation:chat',
      llm_request_total: 1,
      llm_request_duration_seconds: 2000,
      llm_tokens_total: 6,
      llm_prompt_tokens_total: 20,
      llm_fallback_total: 1,
    },
  ]);
});

test('an error type that is set stands against the one that is thrown', async (t) => {
  const { client, counted } = await connected(t);
  const work = (call) => {
    call.set({ error: 'content_filter' });
    throw new SyntaxError('no');
  };
  await assert.rejects(client.request(CHAT, work), SyntaxError);
  assert.equal((await counted(1))[0].llm_error_total, 'content_filter');
});

test('the first token counts the first time', async (t) => {
  const { client, counted } = await connected(t);
  await client.request(CHAT, async (call) => {
    call.firstToken();
    await waitFor(
      'a millisecond',
      (
        (start) => () =>
          performance.now() > start + 1
      )(performance.now()),
    );
    call.firstToken();
  });
  const [call] = await counted(1);
  assert.ok(call.llm_time_to_first_token_seconds + 1 <= call.llm_request_duration_seconds);
});

test('a stream that is read within the work passes through, with its usage', async (t) => {
  const { client, counted } = await connected(t);
  const chunks = [{ text: 'a' }, { usage: null }, { usage: { prompt_tokens: 7, total_tokens: 9 } }];
  const read = await client.request(CHAT, async (call) => {
    const seen = [];
    for await (const chunk of call.stream(source(chunks))) seen.push(chunk);
    call.set({ costDollars: 0.5 });
    return seen;
  });
  assert.deepEqual(read, chunks);
  const [call] = await counted(1);
  assert.equal(call.llm_tokens_total, 9);
  assert.equal(call.llm_cost_dollars_total, 0.5);
  assert.ok(call.llm_time_to_first_token_seconds <= call.llm_request_duration_seconds);
});

test('a stream that is handed out is counted when it has ended', async (t) => {
  const { client, counted } = await connected(t);
  const stream = await client.request(CHAT, async (call) => call.stream(source(['a', 'b'])));
  assert.deepEqual(
    [await stream.next(), await stream.next()].map(({ value }) => value),
    ['a', 'b'],
  );
  assert.equal(client.stats().events, 0);
  assert.equal((await stream.next()).done, true);
  assert.equal((await stream.next()).done, true);
  assert.equal((await counted(1))[0].llm_error_total, undefined);
});

test('a stream that fails is counted once with its type', async (t) => {
  const { client, counted } = await connected(t);
  const error = Object.assign(new Error('cut'), { code: 'ECONNRESET' });
  const stream = await client.request(CHAT, (call) => call.stream(source(['a'], error)));
  await assert.rejects(
    async () => {
      for await (const _ of stream);
    },
    (reason) => reason === error,
  );
  const [call] = await counted(1);
  assert.equal(call.llm_error_total, 'connection');
  assert.ok('llm_time_to_first_token_seconds' in call);
});

test('a stream that fails within the work is counted once', async (t) => {
  const { client, counted } = await connected(t);
  const error = new DOMException('slow', 'TimeoutError');
  const work = async (call) => {
    for await (const _ of call.stream(source([], error)));
  };
  await assert.rejects(client.request(CHAT, work), (reason) => reason === error);
  const [call] = await counted(1);
  assert.equal(call.llm_error_total, 'timeout');
  assert.ok(!('llm_time_to_first_token_seconds' in call));
});

test('a reader that breaks off is no error, and its source is closed', async (t) => {
  const { client, counted } = await connected(t);
  const chunks = source(['a', 'b', 'c']);
  const stream = await client.request(CHAT, (call) => call.stream(chunks));
  for await (const _ of stream) break;
  assert.equal(chunks.closed, true);
  await stream.return();
  assert.equal((await counted(1))[0].llm_error_total, undefined);
});

test('a reader that breaks off before the first chunk has cancelled the call', async (t) => {
  const { client, counted } = await connected(t);
  const stream = await client.request(CHAT, (call) => call.stream(source(['a'])));
  assert.deepEqual(await stream.return(5), { done: true, value: 5 });
  assert.equal((await counted(1))[0].llm_error_total, 'cancelled');
});

test('running totals of a stream are not added up, and never shrink', async (t) => {
  const { client, counted } = await connected(t);
  const chunks = [
    { type: 'message_start', message: { usage: { input_tokens: 25, output_tokens: 1 } } },
    { type: 'message_delta', usage: { input_tokens: 25, output_tokens: 15 } },
    { type: 'message_delta', usage: { input_tokens: 0, output_tokens: 15 } },
  ];
  const stream = await client.request(CHAT, (call) => call.stream(source(chunks)));
  for await (const _ of stream);
  const [call] = await counted(1);
  assert.equal(call.llm_tokens_total, 40);
  assert.equal(call.llm_prompt_tokens_total, 25);
});

test('the time per output token is what came after the first, for each of the others', async (t) => {
  const { client, counted } = await connected(t);
  await client.request(CHAT, (call) => {
    call.set({ completionTokens: 5 });
    call.firstToken();
  });
  const [call] = await counted(1);
  const rest = call.llm_request_duration_seconds - call.llm_time_to_first_token_seconds;
  // Each of the three is rounded to a microsecond, a thousandth of their unit.
  assert.ok(Math.abs(4 * call.llm_time_per_output_token_seconds - rest) < 0.0041);
});

test('there is no time per output token of a failed call, of one token, or of none', async (t) => {
  const { client, counted } = await connected(t);
  for (const fields of [
    { completionTokens: 5, error: 'timeout' },
    { completionTokens: 1 },
    { completionTokens: 5n },
    {},
  ]) {
    await client.request(CHAT, (call) => {
      call.set(fields);
      call.firstToken();
    });
  }
  for (const call of await counted(4)) assert.ok(!('llm_time_per_output_token_seconds' in call));
  assert.equal(client.stats().refusedFields, 1);
});

test('work that fails while its stream is open is counted at once, and once', async (t) => {
  const { client, counted } = await connected(t);
  let stream;
  const work = async (call) => {
    stream = call.stream(source(['a']));
    throw new DOMException('stopped', 'AbortError');
  };
  await assert.rejects(client.request(CHAT, work), { name: 'AbortError' });
  for await (const _ of stream);
  assert.equal((await counted(1))[0].llm_error_total, 'cancelled');
});

test('two streams of a call are one call, counted with the last end', async (t) => {
  const { client, counted } = await connected(t);
  const streams = await client.request(CHAT, (call) => [
    call.stream(source(['a'])),
    call.stream(source(['b'])),
  ]);
  for (const stream of streams) {
    assert.equal(client.stats().events, 0);
    for await (const _ of stream);
    assert.equal((await stream.next()).done, true);
  }
  await counted(1);
});

test('a stream that comes after the count does not count again', async (t) => {
  const { client, counted } = await connected(t);
  const call = await client.request(CHAT, (given) => given);
  for await (const _ of call.stream(source(['a'])));
  await counted(1);
});

test('a stream may come from a list, a Readable or a ReadableStream', async (t) => {
  const { client, counted } = await connected(t);
  const web = new ReadableStream({
    start(controller) {
      controller.enqueue('a');
      controller.close();
    },
  });
  for (const chunks of [['a'], Readable.from(['a']), web]) {
    const stream = await client.request(CHAT, (call) => call.stream(chunks));
    const seen = [];
    for await (const chunk of stream) seen.push(chunk);
    assert.deepEqual(seen, ['a']);
  }
  await counted(3);
});

test('what is no stream fails when it is read, and is counted', async (t) => {
  const { client, counted } = await connected(t);
  const stream = await client.request(CHAT, (call) => call.stream(5));
  await assert.rejects(stream.next(), TypeError);
  assert.equal((await counted(1))[0].llm_error_total, 'other');
});

test('a stream that nobody reads on is counted when it is collected, up to its last chunk', async (t) => {
  const collect = exposeCollector();
  const { client, counted } = await connected(t);
  const begin = performance.now();
  await (async () => {
    const stream = await client.request(CHAT, (call) => call.stream(source(['a', 'b'])));
    await stream.next();
  })();
  const lastChunkBefore = performance.now() - begin;
  await waitFor('the count', () => {
    collect();
    return client.stats().events === 1;
  });
  const [call] = await counted(1);
  assert.equal(call.llm_error_total, undefined);
  assert.ok(call.llm_request_duration_seconds <= lastChunkBefore + 0.001);
});

test('a stream that has ended and is collected does not end another one', async (t) => {
  const collect = exposeCollector();
  const { client, counted } = await connected(t);
  let isCollected = false;
  const registry = new FinalizationRegistry(() => {
    isCollected = true;
  });
  const open = await (async () => {
    const [ended, other] = await client.request(CHAT, (call) => [
      call.stream(source(['a'])),
      call.stream(source(['b'])),
    ]);
    registry.register(ended);
    for await (const _ of ended);
    return other;
  })();
  await waitFor('the collection', () => {
    collect();
    return isCollected;
  });
  assert.equal(client.stats().events, 0);
  for await (const _ of open);
  await counted(1);
});

test('work runs for a client that is closed or disabled', async () => {
  const closed = new Client();
  await closed.close();
  for (const client of [closed, new Client({ disabled: true })]) {
    assert.equal(await client.request(CHAT, async () => 5), 5);
    assert.equal(client.stats().events, 1);
    assert.equal(client.stats().sentDatagrams, 0);
  }
});
