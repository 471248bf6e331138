// Calls that are timed around a model, here a pretended one. With a daemon on this host, see them
// by
//
//     node examples/request.mjs && curl -s http://127.0.0.1:2112/metrics | grep pretended

import { setTimeout as delay } from 'node:timers/promises';

import { Client } from 'llmstatsd-client';

const client = new Client();

/** Answers as OpenAI's chat completions do, and is overloaded when the prompt says so. */
async function complete(prompt) {
  await delay(20);
  if (prompt === 'fail') throw Object.assign(new Error('overloaded'), { status: 503 });
  return {
    choices: [{ message: { role: 'assistant', content: `You said: ${prompt}` } }],
    usage: { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17 },
  };
}

/** The call as an application writes it: the tokens are taken from what the model answers. */
const ask = (prompt) =>
  client.request({ model: 'pretended', operation: 'chat' }, () => complete(prompt));

const answer = await ask('hello');
console.log(answer.choices[0].message.content);

await ask('fail').catch((error) => console.log(`failed: ${error.message}`));

await client.close();
console.log(client.stats());
