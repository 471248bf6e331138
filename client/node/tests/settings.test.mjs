import assert from 'node:assert/strict';
import test from 'node:test';

import settingsModule from '../lib/settings.js';

const { settings } = settingsModule;

const udp = (host, port) => ({ kind: 'udp', host, port });
const INVALID = { kind: 'invalid' };
const UNIX = { kind: 'unix' };

const DESTINATIONS = {
  'nothing is set': [{}, {}, udp('127.0.0.1', 8125)],
  'LLMSTATSD_HOST alone': [{}, { LLMSTATSD_HOST: 'a' }, udp('a', 8125)],
  'LLMSTATSD_PORT alone': [{}, { LLMSTATSD_PORT: '9125' }, udp('127.0.0.1', 9125)],
  'LLMSTATSD_HOST and LLMSTATSD_PORT': [
    {},
    { LLMSTATSD_HOST: 'a', LLMSTATSD_PORT: '9125' },
    udp('a', 9125),
  ],
  'DD_AGENT_HOST alone': [{}, { DD_AGENT_HOST: 'd' }, udp('d', 8125)],
  'DD_DOGSTATSD_PORT alone': [{}, { DD_DOGSTATSD_PORT: '9126' }, udp('127.0.0.1', 9126)],
  'STATSD_HOST alone': [{}, { STATSD_HOST: 's' }, udp('s', 8125)],
  'STATSD_PORT alone': [{}, { STATSD_PORT: '9127' }, udp('127.0.0.1', 9127)],
  'LLMSTATSD before DD, and no pair is mixed': [
    {},
    { LLMSTATSD_HOST: 'a', DD_AGENT_HOST: 'd', DD_DOGSTATSD_PORT: '9126' },
    udp('a', 8125),
  ],
  'a port decides, too': [
    {},
    { LLMSTATSD_PORT: '9125', DD_AGENT_HOST: 'd' },
    udp('127.0.0.1', 9125),
  ],
  'DD before STATSD': [
    {},
    { DD_DOGSTATSD_PORT: '9126', STATSD_HOST: 's', STATSD_PORT: '9127' },
    udp('127.0.0.1', 9126),
  ],
  'LLMSTATSD_SOCKET before hosts': [{}, { LLMSTATSD_SOCKET: '/s', LLMSTATSD_HOST: 'a' }, UNIX],
  'empty variables are missing': [
    {},
    { LLMSTATSD_SOCKET: '', LLMSTATSD_HOST: '', LLMSTATSD_PORT: '', STATSD_HOST: 's' },
    udp('s', 8125),
  ],
  "Kubernetes' LLMSTATSD_PORT is missing": [
    {},
    { LLMSTATSD_PORT: 'udp://10.0.0.1:8125', DD_AGENT_HOST: 'd' },
    udp('d', 8125),
  ],
  'a port of 0 is missing': [{}, { LLMSTATSD_PORT: '0' }, udp('127.0.0.1', 8125)],
  'a port over the range is missing': [{}, { STATSD_PORT: '65536' }, udp('127.0.0.1', 8125)],
  'a port with a fraction is missing': [{}, { STATSD_PORT: '81.5' }, udp('127.0.0.1', 8125)],
  'a port with a sign is missing': [{}, { STATSD_PORT: '+8126' }, udp('127.0.0.1', 8125)],
  'the last port': [{}, { STATSD_PORT: '65535' }, udp('127.0.0.1', 65535)],
  'an argument beats variables': [
    { host: 'h', port: 1 },
    { LLMSTATSD_HOST: 'a', LLMSTATSD_PORT: '9125' },
    udp('h', 1),
  ],
  'arguments are a pair, too': [{ host: 'h' }, { LLMSTATSD_PORT: '9125' }, udp('h', 8125)],
  'an argument beats LLMSTATSD_SOCKET': [
    { port: 9 },
    { LLMSTATSD_SOCKET: '/s' },
    udp('127.0.0.1', 9),
  ],
  'null is no argument': [{ host: null, port: null }, { STATSD_HOST: 's' }, udp('s', 8125)],
  'a port as text': [{ port: '9125' }, {}, udp('127.0.0.1', 9125)],
  'an argument that is a path': [{ socket: '/s' }, {}, UNIX],
  'empty texts are no arguments': [
    { host: '', port: '', socket: '' },
    { STATSD_HOST: 's' },
    udp('s', 8125),
  ],
  'a host that is no text is invalid': [{ host: 5 }, {}, INVALID],
  'a port of 0 is invalid': [{ port: 0 }, {}, INVALID],
  'a port over the range is invalid': [{ host: 'h', port: 65536 }, { STATSD_HOST: 's' }, INVALID],
  'a port that is not whole is invalid': [{ port: 1.5 }, {}, INVALID],
  'a port that is no number is invalid': [{ port: 'http' }, {}, INVALID],
};

test('the destination', async (t) => {
  for (const [name, [options, environment, expected]] of Object.entries(DESTINATIONS)) {
    await t.test(name, () => {
      assert.deepEqual(settings(options, environment).destination, expected);
    });
  }
});

test('LLMSTATSD_DISABLE says yes in four words of any case', () => {
  const isDisabled = (value) => settings({}, { LLMSTATSD_DISABLE: value }).disabled;
  for (const yes of ['1', 'true', 'TRUE', 'Yes', 'on']) assert.equal(isDisabled(yes), true, yes);
  for (const no of [undefined, '', '0', 'false', 'no', 'off', '11', 'true ']) {
    assert.equal(isDisabled(no), false, no);
  }
});

test('an argument beats LLMSTATSD_DISABLE', () => {
  assert.equal(settings({ disabled: false }, { LLMSTATSD_DISABLE: '1' }).disabled, false);
  assert.equal(settings({ disabled: true }, {}).disabled, true);
});

test('a datagram size out of range is the default', () => {
  const bytes = (value) => settings({ maxDatagramBytes: value }, {}).maxDatagramBytes;
  for (const bad of [undefined, null, 0, -1, 1.5, 65508, NaN, '512', {}]) {
    assert.equal(bytes(bad), 1432);
  }
  assert.deepEqual([1, 512, 65507].map(bytes), [1, 512, 65507]);
});

test('options that throw point nowhere', () => {
  const options = {
    get host() {
      throw new Error('no');
    },
  };
  assert.deepEqual(settings(options, { STATSD_HOST: 's' }).destination, INVALID);
});
