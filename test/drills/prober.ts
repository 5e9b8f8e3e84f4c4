import { connect, type Socket } from "node:net";

const tickMs = 25;
const patienceMs = 200;
const waitMs = 100;

export interface ProbeOptions {
  /** Of the data servers. */
  readonly ports: readonly number[];
  /** One for each slot that matters. */
  readonly keys: readonly string[];
  /** Only a server that they name counts: no client can know another. */
  readonly sentinels?: { readonly ports: readonly number[]; readonly name: string };
  /** How many replicas must hold a write. */
  readonly replicas?: number;
}

/** Asks Redis itself, past any gateway, whether it takes writes: only so can a gateway's own delay be told from Redis'. */
export class Prober {
  /** When Redis took writes to a key again after it had not, by performance.now(). */
  readonly back: { readonly key: string; readonly at: number }[] = [];
  readonly #probes: readonly Probe[];
  readonly #timer: NodeJS.Timeout;

  constructor({ ports, keys, sentinels, replicas = 0 }: ProbeOptions) {
    const wait = replicas > 0 ? `WAIT ${replicas} ${waitMs}\r\n` : "";
    const servers = ports.map((port) => {
      const writes = keys.map((key) => `SET {${key}}probe 1\r\n${wait}`);
      return { port, probe: new Probe(port, writes, wait === "" ? 1 : 2, wait === "" ? 0 : waitMs * keys.length) };
    });
    const named = (sentinels?.ports ?? []).map(
      // An array of two strings: five lines.
      (port) => new Probe(port, [`SENTINEL get-master-addr-by-name ${sentinels?.name ?? ""}\r\n`], 5, 0),
    );
    this.#probes = [...servers.map(({ probe }) => probe), ...named];
    const taken = (lines: readonly string[] | null) =>
      lines?.[0] === "+OK" && (wait === "" || Number(lines[1]?.slice(1)) >= replicas);
    const up = new Map<string, boolean>();
    this.#timer = setInterval(() => {
      for (const probe of this.#probes) probe.ask();
      const primaries = new Set(named.flatMap((probe) => probe.answer(0)?.[4] ?? []));
      keys.forEach((key, i) => {
        const isUp = servers.some(({ port, probe }) => {
          return (sentinels === undefined || primaries.has(String(port))) && taken(probe.answer(i));
        });
        if (isUp && up.get(key) === false) this.back.push({ key, at: performance.now() });
        if (isUp || up.has(key)) up.set(key, isUp);
      });
    }, tickMs);
  }

  close(): void {
    clearInterval(this.#timer);
    for (const probe of this.#probes) probe.close();
  }
}

/** The same questions to one server, again and again, over one connection, which is made anew when it is cut or mute. */
class Probe {
  readonly #port: number;
  readonly #questions: readonly string[];
  readonly #linesEach: number;
  readonly #limitMs: number;
  #socket: Socket | null = null;
  #unread = "";
  #askedAt = 0;
  /** Of the round that is under way. */
  #lines: string[] = [];
  #answers: { readonly lines: readonly string[]; readonly at: number } | null = null;

  constructor(port: number, questions: readonly string[], linesEach: number, waitsMs: number) {
    this.#port = port;
    this.#questions = questions;
    this.#linesEach = linesEach;
    this.#limitMs = patienceMs + waitsMs;
  }

  /** Nothing while the last round is not answered. */
  ask(): void {
    const now = performance.now();
    if (this.#socket) {
      if (this.#askedAt > 0 && now - this.#askedAt > this.#limitMs) this.close();
      if (this.#askedAt > 0) return;
    }
    this.#socket ??= this.#connect();
    this.#askedAt = now;
    this.#socket.write(this.#questions.join(""));
  }

  /** null: none, or none lately. */
  answer(question: number): readonly string[] | null {
    if (!this.#answers || performance.now() - this.#answers.at > this.#limitMs) return null;
    return this.#answers.lines.slice(question * this.#linesEach, (question + 1) * this.#linesEach);
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = null;
    this.#askedAt = 0;
    this.#lines = [];
    this.#unread = "";
  }

  #connect(): Socket {
    const socket = connect({ port: this.#port, host: "127.0.0.1", noDelay: true });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      if (this.#socket !== socket) return;
      this.close();
      this.#answers = null;
    });
    socket.on("data", (bytes) => {
      if (this.#socket !== socket) return;
      const lines = (this.#unread + bytes.toString()).split("\r\n");
      this.#unread = lines.pop() ?? "";
      this.#lines.push(...lines);
      if (this.#lines.length < this.#linesEach * this.#questions.length) return;
      this.#answers = { lines: this.#lines, at: performance.now() };
      this.#lines = [];
      this.#askedAt = 0;
    });
    return socket;
  }
}
