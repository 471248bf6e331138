// A streamed answer, from a pretended model: time to the first token, and tokens from the last
// chunk.

import { setTimeout as delay } from 'node:timers/promises';

import { Client } from 'llmstatsd-client';

const client = new Client();

/** Answers word by word, and tells its usage at the end, as OpenAI does with `include_usage`. */
async function* streamed(prompt) {
  for (const word of prompt.split(' ')) {
    await delay(20);
    yield { choices: [{ delta: { content: `${word} ` } }], usage: null };
  }
  yield { choices: [], usage: { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17 } };
}

const stream = await client.request({ model: 'pretended', operation: 'chat' }, async (call) =>
  call.stream(streamed('one chunk after the other')),
);
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '\n');

await client.close();
console.log(client.stats());
