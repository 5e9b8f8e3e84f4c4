import { objectOrEmpty, parseJson, type JsonObject } from "../message/json.ts";
import type { DecisionKind } from "../part-log.ts";
import type { Asks } from "../ports/model.ts";

/** The place of a message or an answer that a run makes. */
export interface MessagePlace {
  readonly messageId: string;
  /** The position that is expected of it, part of its id. */
  readonly hint: number;
}

/** Asks without the arguments, which the part log has. */
type AskedFor = DistributiveOmit<Asks, "args">;
type DistributiveOmit<Of, Key extends keyof Of> = Of extends unknown ? Omit<Of, Key> : never;

export function withoutArgs(asks: Asks): AskedFor {
  return asks.for === "approval"
    ? { for: "approval", schema: asks.schema }
    : { for: "result", resultBytes: asks.resultBytes };
}

/** What is kept of a run that waits, for the process that carries it on. */
export interface PausedRun {
  /** Its steps so far, the one that waits among them. */
  readonly count: number;
  /** What it makes next. */
  readonly message: MessagePlace & { readonly localId: string };
  /** The reply of the step that waits, as it is to be stored. */
  readonly reply: MessagePlace & { readonly data: JsonObject };
  /** Of that step, in order. */
  readonly calls: readonly (MessagePlace & {
    readonly callId: string;
    readonly name: string;
    /** null: nobody has to decide on it. */
    readonly asks: AskedFor | null;
  })[];
  /** Rows of the steps before it. */
  readonly rows: readonly string[];
  /** Tokens that were counted for it. */
  readonly spent: number;
  /** Of what answers. */
  readonly state: JsonObject;
}

/** What was decided on a call. */
export interface Decided {
  readonly kind: DecisionKind;
  /** EDIT */
  readonly args?: JsonObject;
  /** REJECT, RESULT: the `data` of LangChain's stored tool message. */
  readonly answer?: JsonObject;
}

export function pausedRunOf(state: string): PausedRun {
  return parseJson(state) as PausedRun; // as RunSteps writes it
}

/** null: nothing. */
export function decidedOf(decision: string | null): Decided | null {
  return decision === null || decision === "" ? null : (parseJson(decision) as Decided); // as Responding writes it
}

/** The reply's `data` with the arguments that were edited. `decisions`: of each call, in order. */
export function editedData({ reply, calls }: PausedRun, decisions: readonly (Decided | null)[]): JsonObject {
  const edited = new Map(calls.map(({ callId }, i) => [callId, decisions[i]?.args]));
  const asked = Array.isArray(reply.data["tool_calls"]) ? reply.data["tool_calls"] : [];
  const tool_calls = asked.map((one: unknown) => {
    const call = objectOrEmpty(one);
    const args = edited.get(String(call["id"]));
    return args === undefined ? call : { ...call, args };
  });
  return { ...reply.data, tool_calls };
}
