'use strict';

const { Client } = require('./lib/client.js');
const { classify } = require('./lib/classify.js');
const { encode } = require('./lib/encode.js');
const { usage } = require('./lib/usage.js');

module.exports = { Client, classify, encode, usage };
