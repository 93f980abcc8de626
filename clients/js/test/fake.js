import assert from "node:assert/strict";
import { mock } from "node:test";

/**
 * A WebSocket class whose server is the test: `sockets` are those that were made, `connect` waits for the next.
 *
 * @param {{pings?: boolean}} [options] whether it shows the server's pings, as the package ws does
 */
export function fakeWebSocket({ pings = false } = {}) {
  /** @type {FakeSocket[]} */
  const sockets = [];
  class FakeSocket {
    readyState = 0;
    /** @type {Record<string, any>[]} */
    sent = [];
    /** @type {((event?: any) => void) | null} */
    onopen = null;
    /** @type {((event: any) => void) | null} */
    onmessage = null;
    /** @type {((event: any) => void) | null} */
    onclose = null;
    /** @type {((event: any) => void) | null} */
    onerror = null;
    /** The code that the client closed with. @type {number | undefined} */
    closedWith;
    /** @type {undefined | ((type: string, listener: () => void) => void)} */
    on = pings ? (_, listener) => { this.ping = listener; } : undefined;
    ping = () => {};

    /** @param {string} url @param {any} options */
    constructor(url, options) {
      this.url = url;
      this.options = options;
      sockets.push(this);
    }

    /** @param {string} text */
    send(text) {
      assert.equal(this.readyState, 1);
      this.sent.push(JSON.parse(text));
    }

    close(code = 1005) {
      this.readyState = 2;
      this.closedWith = code;
    }

    open() {
      this.readyState = 1;
      this.onopen?.();
    }

    /** The server sends. @param {(Record<string, any> | string)[]} messages */
    says(...messages) {
      for (const message of messages) this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
    }

    /** The connection ends, at the server's wish or by accident. */
    ends(code = 1006, reason = "") {
      this.readyState = 3;
      this.onerror?.({});
      this.onclose?.({ code, reason });
    }

    /** Frames of a type that the client has sent. @param {string} type */
    frames(type) {
      return this.sent.filter(frame => frame.type === type);
    }
  }
  return {
    WebSocket: FakeSocket,
    sockets,
    /** The newest socket, opened. */
    async opened() {
      await idle();
      const socket = sockets.at(-1);
      assert.ok(socket && socket.readyState === 0, "there is a new connection");
      socket.open();
      await idle();
      return socket;
    },
  };
}

/** Lets everything run that waits for nothing but its turn. */
export async function idle() {
  for (let i = 0; i < 30; i++) await null;
}

/**
 * A clock that the test turns. Waits are as long as they can be.
 *
 * @param {import("node:test").TestContext} t
 */
export function clock(t) {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  let now = 0;
  mock.method(performance, "now", () => now);
  mock.method(Math, "random", () => 0.999999);
  t.after(() => {
    mock.timers.reset();
    mock.restoreAll();
  });
  return {
    /** @param {number} ms */
    async pass(ms) {
      await idle();
      now += ms;
      mock.timers.tick(ms);
      await idle();
    },
  };
}
