// Events that the application measures itself, in CommonJS.

const { Client } = require('llmstatsd-client');

const client = new Client({ buffered: true });

client.send({
  model: 'gpt-4o',
  operation: 'chat',
  durationSeconds: 1.84,
  promptTokens: 550,
  completionTokens: 42,
});
client.send({
  model: 'gpt-4o',
  operation: 'chat',
  durationSeconds: 0.2,
  error: 'rate_limit',
  fallback: true,
});

client.close().then(() => console.log(client.stats()));
