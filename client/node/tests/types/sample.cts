// Never run: the same by `require`, and by a namespace.

import llmstatsd = require('llmstatsd-client');

const client: llmstatsd.Client = new llmstatsd.Client({ port: 8125 });
const event: llmstatsd.LlmEvent = { model: 'gpt-4o', tokens: 5 };
client.send(event);
const answer: Promise<string> = client.request(event, async (call: llmstatsd.Call) => {
  for await (const chunk of call.stream(['a'])) chunk.toUpperCase();
  return 'answer';
});
const closed: Promise<void> = client.flush().then(() => client.close());
const stats: llmstatsd.Stats = client.stats();
const type: llmstatsd.ErrorType = llmstatsd.classify(undefined);
client.send({ ...llmstatsd.usage({}), error: type });
const datagrams: string[] = llmstatsd.encode(event).datagrams;

// @ts-expect-error: a number is no model
client.send({ model: 5 });

export { answer, closed, datagrams, stats };
