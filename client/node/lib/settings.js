'use strict';

/**
 * Settings from arguments and environment variables: an argument beats a variable, a variable the
 * default.
 */

const { MAX_DATAGRAM_BYTES } = require('./encode.js');

const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_PORT = 8125;

/** The most that UDP over IPv4 carries: 65535 less the headers. */
const LARGEST_DATAGRAM_BYTES = 65507;

/** The first of these with a host or a port decides; the half that it lacks is the default. */
const VARIABLES = [
  ['LLMSTATSD_HOST', 'LLMSTATSD_PORT'],
  ['DD_AGENT_HOST', 'DD_DOGSTATSD_PORT'],
  ['STATSD_HOST', 'STATSD_PORT'],
];

const YES = /^(1|true|yes|on)$/i;

/** What cannot be sent to; every datagram is counted as dropped. */
const INVALID = { kind: 'invalid' };
const UNIX = { kind: 'unix' };

function isGiven(value) {
  return value !== undefined && value !== null && value !== '';
}

/** A port, or undefined. Kubernetes sets LLMSTATSD_PORT to an URL beside a service of that name. */
function portOf(value) {
  const isText = typeof value === 'string' && /^[0-9]{1,5}$/.test(value);
  const port = isText ? Number(value) : value;
  return Number.isInteger(port) && port >= 1 && port <= 65535 ? port : undefined;
}

function udp(host = DEFAULT_HOST, port = DEFAULT_PORT) {
  return { kind: 'udp', host, port };
}

/** Where the arguments point to, or undefined without any. */
function givenDestination({ host, port, socket }) {
  if (isGiven(socket)) return UNIX;
  if (!isGiven(host) && !isGiven(port)) return undefined;
  const hostIsValid = !isGiven(host) || typeof host === 'string';
  const portIsValid = !isGiven(port) || portOf(port) !== undefined;
  return hostIsValid && portIsValid ? udp(host || undefined, portOf(port)) : INVALID;
}

/** Where the variables point to, or else the default. */
function environmentDestination(environment) {
  if (environment.LLMSTATSD_SOCKET) return UNIX;
  for (const [hostName, portName] of VARIABLES) {
    const host = environment[hostName] || undefined;
    const port = portOf(environment[portName]);
    if (host !== undefined || port !== undefined) return udp(host, port);
  }
  return udp();
}

function datagramBytes(value) {
  const isValid = Number.isInteger(value) && value >= 1 && value <= LARGEST_DATAGRAM_BYTES;
  return isValid ? value : MAX_DATAGRAM_BYTES;
}

function settingsOf(options, environment) {
  const { disabled, buffered, maxDatagramBytes } = options;
  return {
    destination: givenDestination(options) ?? environmentDestination(environment),
    disabled: isGiven(disabled) ? disabled === true : YES.test(environment.LLMSTATSD_DISABLE),
    buffered: buffered === true,
    maxDatagramBytes: datagramBytes(maxDatagramBytes),
  };
}

/** All settings of a client. Takes anything as options, and never throws. */
function settings(options, environment) {
  try {
    return settingsOf(options ?? {}, environment);
  } catch {
    return { ...settingsOf({}, environment), destination: INVALID };
  }
}

module.exports = { settings };
