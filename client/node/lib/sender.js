'use strict';

const dgram = require('node:dgram');
const net = require('node:net');
const { clearTimeout, setTimeout } = require('node:timers');
const { Resolver } = require('./resolver.js');

/** Datagrams that the kernel has not taken or whose callback is due; each is some 1,000 bytes. */
const MOST_UNDER_WAY = 10_000;

/** close() does not wait longer for a name server or a full socket. */
const CLOSE_WAITS_MS = 2_000;

/** `dgram` would look an address up, too, and answer later; so connecting is done at once. */
function literally(address, family, done) {
  done(null, address, family);
}

function isConnected(socket) {
  try {
    socket.remoteAddress();
    return true;
  } catch {
    return false;
  }
}

/** The counter for a datagram that could not be sent. */
function counterOf(error) {
  switch (error.code) {
    case 'EAGAIN':
    case 'EWOULDBLOCK':
    case 'ENOBUFS':
      return 'droppedFull';
    case 'ECONNREFUSED':
      return 'droppedUnreachable';
    default:
      return 'droppedError';
  }
}

/**
 * Sends datagrams to one destination and counts what became of each, once.
 *
 * On a connected socket `send` hands a datagram to the kernel before it returns; only the callback
 * comes later.
 * So a datagram has left even if process.exit() follows. Datagrams wait here only until the address
 * is known.
 */
class Sender {
  #destination;
  #resolver;
  #socket;
  #socketAddress;
  #isConnected = false;
  #waiting = [];
  #underWay = 0;
  #whenIdle = [];
  #counts = {
    sentDatagrams: 0,
    sentBytes: 0,
    droppedFull: 0,
    droppedUnresolved: 0,
    droppedUnreachable: 0,
    droppedError: 0,
  };

  /** `resolving` replaces the resolver's clock and its look-up. */
  constructor(destination, resolving) {
    this.#destination = destination;
    if (destination.kind === 'udp') {
      this.#resolver = new Resolver(destination.host, () => this.#sendWaiting(), resolving);
    }
  }

  counts() {
    return { ...this.#counts };
  }

  /** Send one datagram, a Buffer, or count why not. */
  send(datagram) {
    if (this.#underWay >= MOST_UNDER_WAY) {
      this.#counts.droppedFull += 1;
      return;
    }
    this.#underWay += 1;
    this.#dispatch(datagram);
  }

  /** Resolved when every datagram has left or is counted as dropped. */
  idle() {
    if (this.#underWay === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  /** Wait for what is under way, but not for long; nothing may be sent after this call. */
  async close() {
    let timer;
    const timeout = new Promise((resolve) => {
      timer = setTimeout(resolve, CLOSE_WAITS_MS);
    });
    await Promise.race([this.idle(), timeout]);
    clearTimeout(timer);
    this.#dropWaiting('droppedUnresolved');
    this.#closeSocket();
  }

  #dispatch(datagram) {
    if (this.#destination.kind !== 'udp') {
      this.#settle(this.#destination.kind === 'unix' ? 'droppedError' : 'droppedUnresolved');
      return;
    }
    const address = this.#resolver.address();
    if (address === undefined && !this.#resolver.isLookingUp) {
      this.#settle('droppedUnresolved');
    } else if (address !== undefined && this.#isReady(address)) {
      this.#transmit(datagram, true);
    } else if (address !== undefined && this.#socket === undefined) {
      this.#settle('droppedError');
    } else {
      this.#waiting.push(datagram);
    }
  }

  /** Whether the socket can send to this address now; opens it where needed. */
  #isReady(address) {
    if (this.#socketAddress !== address) this.#closeSocket();
    if (this.#socket === undefined) this.#open(address);
    return this.#isConnected;
  }

  #open(address) {
    try {
      const type = net.isIPv6(address) ? 'udp6' : 'udp4';
      const socket = dgram.createSocket({ type, lookup: literally });
      this.#socket = socket;
      this.#socketAddress = address;
      socket.unref();
      socket.on('error', (error) => this.#receiveError(socket, error));
      socket.connect(this.#destination.port, address, (error) => this.#connected(socket, error));
      this.#isConnected = isConnected(socket);
    } catch {
      this.#closeSocket();
    }
  }

  #connected(socket, error) {
    if (socket !== this.#socket) return;
    if (error) {
      this.#abandon(socket);
    } else {
      this.#isConnected = true;
      this.#sendWaiting();
    }
  }

  /** What the reading side of the socket reports, of which no single datagram can be told. */
  #receiveError(socket, error) {
    if (error.code !== 'ECONNREFUSED') this.#abandon(socket);
  }

  #transmit(datagram, mayRepeat) {
    const socket = this.#socket;
    try {
      socket.send(datagram, (error) => this.#sent(socket, datagram, error, mayRepeat));
    } catch (error) {
      this.#sent(socket, datagram, error, false);
    }
  }

  #sent(socket, datagram, error, mayRepeat) {
    if (!error) {
      this.#counts.sentBytes += datagram.length;
      this.#settle('sentDatagrams');
      return;
    }
    const counter = counterOf(error);
    if (counter === 'droppedUnreachable' && mayRepeat && socket === this.#socket) {
      // It was an earlier datagram that nobody listened to.
      this.#transmit(datagram, false);
      return;
    }
    if (counter === 'droppedError') this.#abandon(socket);
    this.#settle(counter);
  }

  /** A socket is of no use any more: the next datagram opens another, after a new look-up. */
  #abandon(socket) {
    if (socket !== this.#socket) return;
    this.#closeSocket();
    this.#resolver.doubt();
    this.#dropWaiting('droppedError');
  }

  #closeSocket() {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#socketAddress = undefined;
    this.#isConnected = false;
    try {
      socket?.close();
    } catch {
      // It was closed already.
    }
  }

  #sendWaiting() {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const datagram of waiting) this.#dispatch(datagram);
  }

  #dropWaiting(counter) {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let left = waiting.length; left > 0; left -= 1) this.#settle(counter);
  }

  #settle(counter) {
    this.#counts[counter] += 1;
    this.#underWay -= 1;
    if (this.#underWay > 0) return;
    const resolves = this.#whenIdle;
    this.#whenIdle = [];
    for (const resolve of resolves) resolve();
  }
}

module.exports = { Sender };
