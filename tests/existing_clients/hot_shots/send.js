// Sends with hot-shots what its API has: node send.js PORT SCENARIO
'use strict';

const StatsD = require('hot-shots');

const CALL = { model: 'gpt-4o', operation: 'chat' };
const MODEL = ['model:gpt-4o'];

// Every method, in the same way whatever the settings are.
function everything(client) {
  for (let i = 0; i < 3; i += 1) {
    client.increment('llm.request', 1, CALL);
    client.timing('llm.request.duration', 1250, CALL);
  }
  client.increment('llm_tokens_total', 321, MODEL);
  client.histogram('llm.total.duration.seconds', 1.5, MODEL);
  client.distribution('llm.time_to_first_token_seconds', 0.25, CALL);
  client.gauge('app.workers', 7, { pool: 'a' });
  client.gaugeDelta('app.workers', -2, { pool: 'a' });
  client.increment(['app.a', 'app.b'], 2);
  for (const member of ['alice', 'bob', 'alice']) {
    client.unique('app.users', member);
  }
  // 1e+21 and 1e-7 on the wire
  client.gauge('app.large', 1e21);
  client.gauge('app.small', 1e-7);
}

function eventsAndChecks(client) {
  client.event('deploy', 'of version 2\nby hand', { alert_type: 'warning', priority: 'low' }, CALL);
  client.check('app.up', client.CHECKS.WARNING, { hostname: 'a', message: 'slow: 9 s' }, CALL);
}

const SCENARIOS = {
  unbuffered: [{}, (client) => { everything(client); eventsAndChecks(client); }],
  buffered: [
    { maxBufferSize: 1432 },
    (client) => { everything(client); eventsAndChecks(client); },
  ],
  aggregated: [
    { aggregation: true },
    (client) => { everything(client); eventsAndChecks(client); },
  ],
  // container, external data and cardinality after each line
  datadog: [
    { datadog: true, containerID: 'ci-0123', cardinality: 'low' },
    (client) => { everything(client); eventsAndChecks(client); },
  ],
  telegraf: [{ telegraf: true }, everything],
  tagged: [
    { globalTags: { env: 'prod' } },
    (client) => {
      client.increment('llm.request', 1, CALL);
      const named = client.childClient({ prefix: 'svc', suffix: 'v2' });
      named.increment('jobs', 1, CALL);
      named.childClient({ prefix: 'child', globalTags: { env: 'test' } }).gauge('jobs', 7);
    },
  ],
  timestamped: [
    { datadog: true, containerID: 'ci-0123' },
    (client) => {
      const at = { tags: CALL, timestamp: new Date(1656581400000) };
      client.increment('llm.request', 5, at);
      client.gauge('app.workers', 7, { ...at, cardinality: 'high' });
    },
  ],
  sampled: [
    {},
    (client) => {
      // What a rate lets through is left to chance; here everything.
      Math.random = () => 0;
      client.increment('llm.request', 3, 0.5, CALL);
      client.timing('llm.request.duration', 1250, 0.25, CALL);
      client.gauge('app.workers', 7, 0.5);
      client.set('app.users', 'alice', 0.5);
    },
  ],
  timers: [
    {},
    async (client) => {
      client.timer(() => 42, 'llm.request.duration', 1, CALL)();
      await client.asyncTimer(async () => 42, 'llm.total.duration', 1, MODEL)();
      await client.asyncDistTimer(async () => 42, 'app.step.milliseconds')();
    },
  ],
  hostile: [
    {},
    (client) => {
      client.increment('llm:request|', 1, { model: 'a|b,c#d\ne:f' });
      client.increment('llm.request', 1, ['urgent', 'model:gpt-4o']);
      client.decrement('app.left');
      client.timing('llm.request.duration', NaN);
      client.timing('llm.request.duration', undefined);
    },
  ],
  event_not_in_ascii: [{}, (client) => client.event('déployé', 'version 2')],
  temperature: [
    {},
    (client) => {
      client.gauge('app.temperature', 20);
      client.gauge('app.temperature', -5);
    },
  ],
  telemetry: [
    { includeDatadogTelemetry: true },
    (client) => {
      everything(client);
      eventsAndChecks(client);
      // so that all of these datagrams are counted
      return new Promise((resolve) => { client.flush(resolve); });
    },
  ],
};

async function main(port, name) {
  const [settings, send] = SCENARIOS[name];
  const client = new StatsD({
    host: '127.0.0.1',
    port: Number(port),
    includeDatadogTelemetry: false, // which is on if any of the variables DD_* is set
    ...settings,
  });
  await send(client);
  client.close((error) => {
    if (error) {
      throw error;
    }
  });
}

main(...process.argv.slice(2));
