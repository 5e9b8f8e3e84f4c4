/**
 * What each script takes and answers, by name: the one place that knows the order. The header of x.lua says what the names
 * mean, test/conformance/lua-headers.test.ts holds the two together.
 *
 * `args`: names in their order, "name..." for any number of values. `answers`: a code and the names of what comes with it,
 * then the next. `libraries`: what a script needs in front of it, beside what all session scripts have.
 */
interface Contract {
  readonly effect: Effect;
  readonly args: string;
  readonly answers: string;
  readonly libraries?: readonly string[];
}

/** What a script does to Redis, for Redis: on a full server `reads` may run, and so may `frees` and `notes` (a few bytes that a reading needs). */
type Effect = "reads" | "writes" | "frees" | "notes";

/** Scripts over a session's keys. Each may answer CORRUPT too, which session-calls.ts throws. */
export const sessionScripts = {
  begin: {
    effect: "writes",
    libraries: ["place", "quota"],
    args: "runJson inputHead inputTail template whenBusy maxQueued leaseMs graceMs memory memoryRows model limits refused keyOp keyFingerprint tools record...",
    answers:
      "STARTED head run inputRow memory instructions summary low rows owner tools interrupted | QUEUED head run | KNOWN fingerprint result | KEYLESS | BUSY runId status | FULL | LIMITED limit seconds | EXPIRED | NOTHING | NOT_FOUND",
  },
  attend: {
    effect: "writes",
    args: "processId graceMs takeAny leaseMs memory memoryRows",
    answers:
      "STARTED head run inputRow memory instructions summary low rows owner tools log state decisions... | IDLE head | NOT_FOUND",
  },
  progress: {
    effect: "writes",
    args: "runId token offset fragment added leaseMs logOffset lines linesAdded",
    answers: "OK length | LENGTH length logLength | CLOSED | NOT_FOUND",
  },
  step: {
    effect: "writes",
    args: "runId token rowHead rowTail logOffset lines linesAdded leaseMs nextLocalId nextHint template waitMs said state calls...",
    answers: "OK | WAITING head | LENGTH logLength | OPEN | CLOSED | NOT_FOUND",
  },
  answer: {
    effect: "writes",
    args: "runId token number rowHead rowTail logOffset lines linesAdded leaseMs",
    answers: "OK head | LENGTH logLength | CLOSED | NOT_FOUND",
  },
  claim: { effect: "writes", args: "runId token leaseMs calls...", answers: "OK head | CLOSED | NOT_FOUND" },
  waiting: {
    effect: "reads",
    args: "runId",
    answers: "OK run log state decisions... | KNOWN fingerprint | NOT_WAITING | NOT_FOUND",
  },
  respond: {
    effect: "writes",
    args: "runId processId attempt left rowHead rowTail logOffset lines linesAdded leaseMs memory memoryRows decisions...",
    answers:
      "STARTED head run inputRow memory instructions summary low rows owner tools log state decisions... | OK head | KNOWN fingerprint | LENGTH logLength | NOT_WAITING | NOT_FOUND",
  },
  renew: { effect: "writes", args: "runId token leaseMs", answers: "OK | CLOSED | NOT_FOUND" },
  finish: {
    effect: "writes",
    args: "runId token status replyHead replyTail text inputTokens outputTokens totalTokens errorCode errorMessage retryable retryAfter notes log structured",
    answers: "OK head run title | KNOWN head run title | CLOSED head run | NOT_FOUND",
  },
  cancel: { effect: "frees", args: "runId", answers: "OK head | NOT_FOUND" },
  append: {
    effect: "writes",
    args: "messages...",
    answers: "OK head places... | KNOWN head places... | REUSED | NOT_FOUND",
  },
  checkpoint: {
    effect: "writes",
    args: "name keep lives parent unchanged fields values...",
    answers: "OK head | PARENT | NOT_FOUND",
  },
  create: { effect: "writes", args: "ttl record...", answers: "OK head | KNOWN fingerprint | EXISTS | NOT_FOUND" },
  update: { effect: "writes", args: "setsTtl ttl drops record...", answers: "OK head | NOT_FOUND" },
  title: { effect: "writes", args: "generation title", answers: "OK head | TITLED | EXPIRED | NOT_FOUND" },
  "mark-read": {
    effect: "writes",
    libraries: ["place"],
    args: "kind where what",
    answers: "OK head | EXPIRED | NOT_FOUND",
  },
  summary: { effect: "writes", args: "generation position rowMark text", answers: "OK | EXPIRED | NOT_FOUND" },
  clear: { effect: "frees", args: "", answers: "OK head | NOT_FOUND" },
  remove: { effect: "frees", args: "", answers: "OK | NOT_FOUND" },
  fork: {
    effect: "writes",
    args: "rows record...",
    answers: "OK head | KNOWN fingerprint | EXISTS | STAGING | NOT_FOUND",
  },
  restore: {
    effect: "writes",
    args: "rows digest replace archivedGeneration base livesUntil sameAt record...",
    answers: "OK head | KNOWN | EXISTS | STAGING",
  },
  give: { effect: "notes", args: "newOwner", answers: "OK head | KNOWN head | NOT_FOUND" },
  touch: { effect: "notes", args: "generation position rowMark", answers: "OK head | NOT_FOUND" },
  view: {
    effect: "reads",
    libraries: ["place"],
    args: "runId mostBytes known pages...",
    answers: "OK record count tipMark expires now run active last queue pages state | SAME | TOUCH | NOT_FOUND other",
  },
} as const satisfies Record<string, Contract>;

/** Scripts over keys of their own. */
export const plainScripts = {
  checkpoints: { effect: "reads", args: "from to most", answers: "OK found..." },
  "checkpoint-writes": { effect: "writes", args: "historyKey lives writes...", answers: "OK" },
  compare: { effect: "reads", libraries: ["mark"], args: "known...", answers: "OK changed..." },
  "due-claim": { effect: "frees", args: "holdMs most", answers: "OK claim members..." },
  "due-settle": { effect: "frees", args: "member claim", answers: "OK removed" },
  "quota-admit": {
    effect: "writes",
    libraries: ["quota"],
    args: "id limits holdMs how",
    answers: "OK | LIMITED limit seconds",
  },
  "quota-hold": { effect: "frees", libraries: ["quota"], args: "holdMs ids...", answers: "OK" },
  "quota-spend": { effect: "frees", libraries: ["quota"], args: "id tokens", answers: "OK | KNOWN" },
} as const satisfies Record<string, Contract>;

const contracts = { ...sessionScripts, ...plainScripts };

export type SessionScript = keyof typeof sessionScripts;
export type PlainScript = keyof typeof plainScripts;
export type ScriptName = SessionScript | PlainScript;

export const scriptNames = Object.keys(contracts) as ScriptName[]; // the keys of the table itself

export function contractOf(name: ScriptName): Contract {
  return contracts[name];
}

export type Arg = string | number;
/** What Redis answers: strings, integers and arrays of them. */
export type Reply = string | number | null | readonly Reply[];

/** The arguments of a script by name. */
export type ArgsOf<Name extends ScriptName> = Name extends unknown ? Args<(typeof contracts)[Name]["args"]> : never;
type Args<Text extends string> = Text extends ""
  ? Readonly<Record<string, never>>
  : { readonly [Word in Words<Text> as Single<Word>]: Word extends `${string}...` ? readonly Arg[] : Arg };

/** What a script may answer: told apart by `code`, and what comes with that by name, undefined where it is left out at the end. */
export type AnswerOf<Name extends ScriptName> = Name extends unknown
  ? Answers<(typeof contracts)[Name]["answers"]>
  : never;
type Answers<Text extends string> = Text extends `${infer One} | ${infer Others}`
  ? Answer<One> | Answers<Others>
  : Answer<Text>;
type Answer<Text extends string> = Text extends `${infer Code} ${infer Names}`
  ? { readonly code: Code } & {
      readonly [Word in Words<Names> as Single<Word>]: Word extends `${string}...`
        ? readonly Reply[]
        : Reply | undefined;
    }
  : { readonly code: Text };

type Words<Text extends string> = Text extends `${infer Word} ${infer Others}`
  ? Word | Words<Others>
  : Text extends ""
    ? never
    : Text;
type Single<Word extends string> = Word extends `${infer Name}...` ? Name : Word;
