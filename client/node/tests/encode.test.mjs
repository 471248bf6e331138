import assert from 'node:assert/strict';
import test from 'node:test';

import { encode } from 'llmstatsd-client';
import { badInputs, vectors } from './support.mjs';

const cases = vectors();

test(`every vector is met: ${cases.length} run, 0 skipped`, async (t) => {
  assert.ok(cases.length >= 80);
  for (const { name, event, max_datagram_bytes: maxBytes, datagrams, refused } of cases) {
    await t.test(name, () => {
      const encoded = encode(event, maxBytes);
      assert.deepEqual(encoded.datagrams, datagrams);
      assert.deepEqual(encoded.refused.sort(), refused.sort());
    });
  }
});

test('nothing makes encode throw or write what is no line', async (t) => {
  for (const [name, event] of Object.entries(badInputs())) {
    await t.test(name, () => {
      for (const datagram of encode(event).datagrams) {
        assert.ok(Buffer.byteLength(datagram) <= 1432);
        assert.equal(Buffer.from(datagram).toString(), datagram);
        for (const line of datagram.split('\n')) {
          assert.match(line, /^llm_[a-z_]+:[0-9.]+\|(c|ms)(\|#[^|#\n]+)?$/);
        }
      }
    });
  }
});

test('a field that throws when read is refused, and the rest is sent', () => {
  const { datagrams, refused } = encode(badInputs()['a getter that throws']);
  assert.deepEqual(datagrams, ['llm_request_total:1|c|#model:m']);
  assert.deepEqual(refused, ['tokens']);
});

test('a field that is refused beside one that throws is named once', () => {
  const event = Object.assign(badInputs()['a getter that throws'], { model: 5, cachedTokens: -1 });
  assert.deepEqual(encode(event).refused.sort(), ['cachedTokens', 'model', 'tokens']);
});

/** Numbers of every size up to `most`, the same in each run. */
function* numbers(most, count) {
  let state = 1;
  for (let index = 0; index < count; index += 1) {
    state = (state * 48271) % 2147483647;
    yield most * (state / 2147483647) ** 8;
  }
}

/** Units as a decimal of whole and fraction, by whole numbers alone. */
function decimal(units, places) {
  const digits = units.toString().padStart(places + 1, '0');
  return `${digits.slice(0, -places)}.${digits.slice(-places)}`.replace(/\.?0+$/, '');
}

test('durations are exact to the microsecond', () => {
  for (const seconds of [...numbers(1e9, 20_000), ...numbers(600, 20_000)]) {
    const micros = BigInt(Math.floor(seconds * 1e6 + 0.5));
    const line = `llm_request_duration_seconds:${decimal(micros, 3)}|ms`;
    assert.equal(encode({ durationSeconds: seconds }).datagrams[0].split('\n')[1], line);
  }
});

// The only double whose multiplication and addition, fused, would round to another whole number.
test('multiplication and addition are not fused', () => {
  const { datagrams } = encode({ costDollars: 4.999999999999999e-10 });
  assert.deepEqual(datagrams, ['llm_request_total:1|c\nllm_cost_dollars_total:0.000000001|c']);
});

test('costs are exact to the billionth of a dollar', () => {
  for (const dollars of [...numbers(1e6, 20_000), ...numbers(0.1, 20_000)]) {
    const nanos = BigInt(Math.floor(dollars * 1e9 + 0.5));
    const line = `llm_cost_dollars_total:${decimal(nanos, 9)}|c`;
    assert.equal(encode({ costDollars: dollars }).datagrams[0].split('\n')[1], line);
  }
});
