'use strict';

const { LineBuffer } = require('./buffer.js');
const { cut, encodeLines } = require('./encode.js');
const { request } = require('./request.js');
const { Sender } = require('./sender.js');
const { settings } = require('./settings.js');

let hasWarned = false;

function warnOnce() {
  if (hasWarned) return;
  hasWarned = true;
  process.emitWarning(
    'Node.js has no unix datagram sockets: every event is dropped. Set host or port instead.',
    { type: 'LlmstatsdWarning', code: 'LLMSTATSD_SOCKET' },
  );
}

/** Counts LLM calls. No method throws, blocks, or keeps the process from ending. */
class Client {
  #events = 0;
  #refusedFields = 0;
  #closedEvents = 0;
  #isDisabled;
  #maxDatagramBytes;
  #buffer;
  #sender;
  #closing;

  constructor(options) {
    const { destination, disabled, buffered, maxDatagramBytes } = settings(options, process.env);
    this.#isDisabled = disabled;
    this.#maxDatagramBytes = maxDatagramBytes;
    this.#sender = new Sender(destination);
    if (buffered) this.#buffer = new LineBuffer(maxDatagramBytes, (lines) => this.#hand(lines));
    if (destination.kind === 'unix' && !disabled) warnOnce();
  }

  /** Count one finished call; without an argument, one of which nothing is known. */
  send(event = {}) {
    if (event === null || (typeof event !== 'object' && typeof event !== 'function')) {
      this.#refusedFields += 1;
      return;
    }
    this.#events += 1;
    if (this.#closing !== undefined) {
      this.#closedEvents += 1;
    } else if (!this.#isDisabled) {
      this.#encode(event);
    }
  }

  /**
   * Run `work(call)`, time it, classify what it throws, count it once, and give or throw what it
   * gave or threw.
   */
  request(fields, work) {
    return request((event) => this.send(event), fields, work);
  }

  /** What was counted since the client was made; every datagram is either sent or dropped, once. */
  stats() {
    return {
      events: this.#events,
      refusedFields: this.#refusedFields,
      closedEvents: this.#closedEvents,
      ...this.#sender.counts(),
    };
  }

  /** Send buffered lines now. Resolved when nothing is under way any more; never rejected. */
  flush() {
    this.#buffer?.flush();
    return this.#sender.idle();
  }

  /**
   * Flush and close. Resolved within two seconds; never rejected. Later events are only counted.
   */
  close() {
    if (this.#closing === undefined) {
      this.#buffer?.flush();
      this.#closing = this.#sender.close();
    }
    return this.#closing;
  }

  #encode(event) {
    const { lines, refused } = encodeLines(event);
    this.#refusedFields += refused.length;
    if (this.#buffer !== undefined) {
      this.#buffer.add(lines);
    } else {
      for (const datagram of cut(lines, this.#maxDatagramBytes)) this.#hand(datagram);
    }
  }

  #hand(lines) {
    this.#sender.send(Buffer.from(lines));
  }
}

module.exports = { Client };
