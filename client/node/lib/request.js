'use strict';

const { performance } = require('node:perf_hooks');
const { classify } = require('./classify.js');
const { copyFields } = require('./encode.js');
const { usage } = require('./usage.js');

/**
 * Streams that nobody reads to their end, nor breaks off: their call is counted when they are
 * collected.
 */
const forgotten = new FinalizationRegistry((record) => record.streamAbandoned());

/**
 * One call from its start to the one time it is counted: when `work` has settled and its streams
 * have ended,
 * or at once when `work` has failed.
 */
class Record {
  #report;
  #given;
  #seen = {};
  #error;
  #startedAt = performance.now();
  #firstTokenAt;
  #lastChunkAt;
  #endedAt;
  #openStreams = 0;
  #hasReturned = false;
  #isCounted = false;

  constructor(report, fields) {
    this.#report = report;
    this.#given = copyFields(fields);
  }

  /** What the caller says; it stands against what was seen or measured. */
  set(fields) {
    Object.assign(this.#given, copyFields(fields));
  }

  /** What a response says about itself, or a chunk of a stream, where counts are running totals. */
  see(response) {
    for (const [field, value] of Object.entries(usage(response))) {
      this.#seen[field] = Math.max(value, this.#seen[field] ?? 0);
    }
  }

  firstToken() {
    this.#firstTokenAt ??= performance.now();
  }

  chunk(chunk) {
    this.#lastChunkAt = performance.now();
    this.firstToken();
    this.see(chunk);
  }

  returned() {
    this.#hasReturned = true;
    this.#countWhenDone();
  }

  failed(error) {
    this.#error ??= classify(error);
    this.#count();
  }

  streamOpened() {
    this.#openStreams += 1;
  }

  streamFailed(error) {
    this.#error ??= classify(error);
  }

  streamEnded(at = performance.now()) {
    this.#endedAt = at;
    this.#openStreams -= 1;
    this.#countWhenDone();
  }

  /** Nobody reads on: the call ends with what came last, and if nothing came, it was cancelled. */
  streamAbandoned() {
    if (this.#lastChunkAt === undefined) this.#error ??= 'cancelled';
    this.streamEnded(this.#lastChunkAt);
  }

  #countWhenDone() {
    if (this.#hasReturned && this.#openStreams === 0) this.#count();
  }

  #count() {
    if (this.#isCounted) return;
    this.#isCounted = true;
    const endedAt = this.#endedAt ?? performance.now();
    this.#report({ ...this.#measured(endedAt), ...this.#seen, ...this.#given });
  }

  #measured(endedAt) {
    const event = { durationSeconds: (endedAt - this.#startedAt) / 1000, error: this.#error };
    if (this.#firstTokenAt === undefined) return event;
    event.timeToFirstTokenSeconds = (this.#firstTokenAt - this.#startedAt) / 1000;
    const tokens = this.#given.completionTokens ?? this.#seen.completionTokens;
    const hasFailed = (this.#given.error ?? this.#error) !== undefined;
    if (Number.isSafeInteger(tokens) && tokens > 1 && !hasFailed) {
      const afterFirst = Math.max(0, endedAt - this.#firstTokenAt) / 1000;
      event.timePerOutputTokenSeconds = afterFirst / (tokens - 1);
    }
    return event;
  }
}

/**
 * The chunks of a source, which the record sees on their way; it hears of the end once, however
 * that comes.
 */
class Stream {
  #source;
  #record;
  #iterator;
  #hasEnded = false;

  constructor(source, record) {
    this.#source = source;
    this.#record = record;
    record.streamOpened();
    forgotten.register(this, record, this);
  }

  async next() {
    let step;
    try {
      step = await this.#open().next();
    } catch (error) {
      this.#record.streamFailed(error);
      this.#end();
      throw error;
    }
    if (step.done) this.#end();
    else this.#record.chunk(step.value);
    return step;
  }

  /** The reader breaks off. */
  async return(value) {
    this.#end(() => this.#record.streamAbandoned());
    await this.#open().return?.();
    return { done: true, value };
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #open() {
    this.#iterator ??= this.#source[Symbol.asyncIterator]?.() ?? this.#source[Symbol.iterator]();
    return this.#iterator;
  }

  #end(tell = () => this.#record.streamEnded()) {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    forgotten.unregister(this);
    tell();
  }
}

/** Run `work(call)` and hand its event to `report`, once; see Client.request. */
async function request(report, fields, work) {
  const record = new Record(report, fields);
  const call = {
    set: (more) => record.set(more),
    firstToken: () => record.firstToken(),
    stream: (source) => new Stream(source, record),
  };
  let result;
  try {
    result = await work(call);
  } catch (error) {
    record.failed(error);
    throw error;
  }
  record.see(result);
  record.returned();
  return result;
}

module.exports = { request };
