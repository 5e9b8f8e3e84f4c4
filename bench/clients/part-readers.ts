import { createClient } from "graphql-ws";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";

import { machineMs, takeOrders } from "../orders.ts";
import { partsQuery, type RunPart } from "../queries.ts";

// Readers that put the parts of a run together from events alone, as docs/live.md says.

interface Progress {
  readonly runId: string;
  readonly index: number;
  readonly offset: number;
  readonly text: string;
}

type Event =
  | {
      readonly __typename: "PartAdded" | "PartChanged";
      readonly runId: string;
      readonly index: number;
      readonly part: RunPart;
    }
  | ({ readonly __typename: "PartProgress" | "ReplyProgress" } & Progress)
  | { readonly __typename: "RunChanged"; readonly run: { readonly id: string; readonly status: string } }
  | { readonly __typename: "StreamOpened" | "MessageAdded" };

class Reader {
  ended: string | null = null;
  isOpen = false;
  events = 0;
  /** Of the newest run. */
  parts: RunPart[] = [];

  take(event: Event): void {
    this.events += 1;
    switch (event.__typename) {
      case "StreamOpened":
        this.isOpen = true;
        return;
      case "PartAdded":
        this.parts[event.index] ??= event.part;
        return;
      case "PartChanged":
        if ((this.parts[event.index]?.revision ?? -1) < (event.part.revision ?? 0))
          this.parts[event.index] = event.part;
        return;
      case "ReplyProgress":
        this.parts[event.index] ??= { __typename: "TextPart", start: event.offset, text: "" };
        this.#add(event, "text", event.offset - (this.parts[event.index]?.start ?? 0));
        return;
      case "PartProgress":
        this.#add(event, this.parts[event.index]?.__typename === "ToolPart" ? "argsText" : "text", event.offset);
        return;
      case "RunChanged":
        if (event.run.status === "QUEUED") this.parts = [];
        if (["COMPLETED", "CANCELLED", "FAILED"].includes(event.run.status)) this.ended = event.run.id;
        return;
      default:
    }
  }

  begin(): void {
    this.parts = [];
    this.ended = null;
  }

  #add({ index, text }: Progress, field: "text" | "argsText", offset: number): void {
    const part = this.parts[index];
    const had = part?.[field] ?? "";
    if (part === undefined || offset > had.length)
      problems.push(`Text at ${offset} of part ${index} came behind ${had.length}`);
    else if (offset + text.length > had.length) this.parts[index] = { ...part, [field]: had.slice(0, offset) + text };
  }
}

const readers: Reader[] = [];
const problems: string[] = [];

async function until(what: string, limitMs: number, holds: () => boolean): Promise<void> {
  const limit = machineMs() + limitMs;
  while (!holds()) {
    if (machineMs() > limit) throw new Error(`No ${what} within ${limitMs} ms: ${problems.slice(0, 3).join("; ")}`);
    await sleep(5);
  }
  if (problems.length > 0) throw new Error(`${problems.length} wrong, first: ${problems.slice(0, 3).join("; ")}`);
}

const orders = {
  async open({ url, count, sessionId }: { readonly url: string; readonly count: number; readonly sessionId: string }) {
    for (let i = 0; i < count; i++) {
      const client = createClient({ url: url.replace(/^http/, "ws"), webSocketImpl: WebSocket, retryAttempts: 0 });
      const reader = new Reader();
      client.subscribe<{ readonly sessionEvents: Event }>(
        { query: partsQuery, variables: { sessionId } },
        {
          next: ({ data, errors }) => {
            if (data) reader.take(data.sessionEvents);
            else problems.push(JSON.stringify(errors));
          },
          error(error) {
            problems.push(String(error));
          },
          complete() {
            problems.push("A stream ended");
          },
        },
      );
      readers.push(reader);
    }
    await until("open streams", 30_000, () => readers.every(({ isOpen }) => isOpen));
  },

  /** Waits until each has the end of the run; each must have put together just these parts. Gives the events that came. */
  async ended({ runId, parts }: { readonly runId: string; readonly parts: readonly RunPart[] }): Promise<number> {
    await until("end of the run", 30_000, () => readers.every(({ ended }) => ended === runId));
    const wanted = JSON.stringify(parts);
    const other = readers.find((reader) => JSON.stringify(reader.parts) !== wanted);
    if (other !== undefined) throw new Error(`A reader has other parts: ${JSON.stringify(other.parts).slice(0, 2000)}`);
    let events = 0;
    for (const reader of readers) {
      reader.begin();
      events += reader.events;
      reader.events = 0;
    }
    return events;
  },
};

export type PartReaders = typeof orders;

takeOrders(orders);
