'use strict';

const dns = require('node:dns');
const net = require('node:net');
const { performance } = require('node:perf_hooks');

const ANSWER_HOLDS_MS = 60_000;
/** A name server in trouble is not asked for every event. */
const REST_AFTER_FAILURE_MS = 1_000;

/**
 * The address of a host, looked up in the background.
 * A name is looked up again every 60 s and after an error; a failed look-up leaves the last answer
 * in force.
 * An address is its own answer.
 */
class Resolver {
  #host;
  #answered;
  #lookup;
  #now;
  #address;
  #isLookingUp = false;
  #dueAt = -Infinity;
  #answeredAt = -Infinity;

  /** `answered` is called after each look-up, whether there is an address now or not. */
  constructor(host, answered, { lookup = dns.lookup, now = () => performance.now() } = {}) {
    this.#host = host;
    this.#answered = answered;
    this.#lookup = lookup;
    this.#now = now;
    if (net.isIP(host)) {
      this.#address = host;
      this.#dueAt = Infinity;
    }
  }

  get isLookingUp() {
    return this.#isLookingUp;
  }

  /** The address to send to now, or undefined. Starts a look-up that is due. */
  address() {
    if (!this.#isLookingUp && this.#now() >= this.#dueAt) this.#start();
    return this.#address;
  }

  /** Sending failed: perhaps the name has another address by now. */
  doubt() {
    if (this.#dueAt !== Infinity) this.#dueAt = this.#answeredAt + REST_AFTER_FAILURE_MS;
  }

  #start() {
    this.#isLookingUp = true;
    try {
      this.#lookup(this.#host, { all: true }, (error, found) => this.#finish(error ? [] : found));
    } catch {
      // The name is none that could be asked for.
      this.#finish([]);
    }
  }

  #finish(found) {
    const best = found.find(({ family }) => family === 4) ?? found[0];
    this.#address = best?.address ?? this.#address;
    this.#answeredAt = this.#now();
    this.#dueAt = this.#answeredAt + (best ? ANSWER_HOLDS_MS : REST_AFTER_FAILURE_MS);
    this.#isLookingUp = false;
    this.#answered();
  }
}

module.exports = { Resolver };
