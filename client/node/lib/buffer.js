'use strict';

const { clearTimeout, setTimeout } = require('node:timers');
const { cut } = require('./encode.js');

const FLUSH_AFTER_MS = 300;

/**
 * Buffers that hold lines now. One pair of listeners serves them all, however many clients there
 * are.
 */
const filled = new Set();
let isListening = false;

function flushFilled() {
  for (const buffer of filled) buffer.flush();
}

/** 'beforeExit' can still wait for a name; 'exit' also comes after process.exit(). */
function listen() {
  if (isListening) return;
  isListening = true;
  process.on('beforeExit', flushFilled);
  process.on('exit', flushFilled);
}

/**
 * Lines of several events that share a datagram.
 * It leaves when the next lines do not fit, 300 ms after its first line, at flush() and when the
 * process ends.
 */
class LineBuffer {
  #maxBytes;
  #send;
  #lines = '';
  #bytes = 0;
  #timer;

  constructor(maxBytes, send) {
    this.#maxBytes = maxBytes;
    this.#send = send;
  }

  add(lines) {
    for (const part of cut(lines, this.#maxBytes)) this.#append(part, Buffer.byteLength(part));
  }

  flush() {
    if (this.#bytes === 0) return;
    clearTimeout(this.#timer);
    filled.delete(this);
    const lines = this.#lines;
    this.#lines = '';
    this.#bytes = 0;
    this.#send(lines);
  }

  #append(lines, bytes) {
    if (this.#bytes > 0 && this.#bytes + 1 + bytes > this.#maxBytes) this.flush();
    if (this.#bytes > 0) {
      this.#lines += `\n${lines}`;
      this.#bytes += 1 + bytes;
    } else {
      this.#lines = lines;
      this.#bytes = bytes;
      this.#timer = setTimeout(() => this.flush(), FLUSH_AFTER_MS).unref();
      filled.add(this);
      listen();
    }
  }
}

module.exports = { LineBuffer };
