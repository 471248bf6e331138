// One worker of the cluster in exit.test.mjs; ends with 0 if its event has left.

const { Client } = require('llmstatsd-client');

const client = new Client();
client.send({ model: 'worker' });
client.close().then(() => process.exit(client.stats().sentDatagrams === 1 ? 0 : 1));
