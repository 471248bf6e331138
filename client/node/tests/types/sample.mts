// Never run: `tsc` checks that the types fit what an application writes.

import { Client, classify, encode, usage } from 'llmstatsd-client';
import type { Call, ClientOptions, ErrorType, LlmEvent, Stats } from 'llmstatsd-client';

const options: ClientOptions = {
  host: 'localhost',
  port: 8125,
  disabled: false,
  buffered: true,
  maxDatagramBytes: 512,
};
const client: Client = new Client(options);
new Client();

const event: LlmEvent = {
  model: 'gpt-4o',
  operation: 'chat',
  durationSeconds: 1.84,
  tokens: 230,
  promptTokens: 200,
  completionTokens: 30,
  cachedTokens: 128,
  costDollars: 0.0123,
  loadDurationSeconds: 0.5,
  promptEvalDurationSeconds: 0.12,
  totalDurationSeconds: 1.8,
  timeToFirstTokenSeconds: 0.3,
  timePerOutputTokenSeconds: 0.0375,
  error: 'timeout',
  rateLimited: true,
  fallback: null,
};
const nothing: void = client.send(event);
client.send();
client.send({ error: 'an error of my own' });

const text: string = await client.request({ model: 'm' }, async (call: Call) => {
  call.firstToken();
  call.set({ tokens: 5 });
  call.set(usage({}));
  return 'answer';
});
const length: number = await client.request({}, () => 5);

async function* chunks(): AsyncGenerator<{ delta: string }> {
  yield { delta: 'a' };
}
const stream = await client.request({ model: 'm' }, (call) => call.stream(chunks()));
for await (const { delta } of stream) delta.toUpperCase();

const stats: Stats = client.stats();
const counts: number[] = [
  stats.events,
  stats.refusedFields,
  stats.closedEvents,
  stats.sentDatagrams,
  stats.sentBytes,
  stats.droppedFull,
  stats.droppedUnresolved,
  stats.droppedUnreachable,
  stats.droppedError,
];
const type: ErrorType = classify(new Error('no'));
const { datagrams, refused } = encode(event, 512);
const texts: string[] = [...datagrams, ...refused];
await client.flush();
await client.close();

// @ts-expect-error: a text is no duration
client.send({ durationSeconds: '1.5' });
// @ts-expect-error: there is no such field
client.send({ promptToken: 5 });
// @ts-expect-error: there is no such setting
new Client({ socket: '/var/run/llmstatsd.sock' });
// @ts-expect-error: work gives a number
const wrong: string = await client.request({}, () => 5);
// @ts-expect-error: the set is closed
const unknown: ErrorType = 'slow';

export { counts, length, nothing, text, texts, type, unknown, wrong };
