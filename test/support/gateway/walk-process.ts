import { subscribe } from "node:diagnostics_channel";
import { Session } from "node:inspector";
import type { Debugger, Profiler } from "node:inspector";
import { Socket } from "node:net";
import { createGateway } from "../../../src/gateway.ts";

// A gateway in a process of its own that tells which files of src/ have a function called between the arrival of a
// sendMessage by POST and its EVALSHA, in the order of their first calls. V8's coverage says what was called, and
// breakpoints whose condition never holds say in which order.

const [redis = ""] = process.argv.slice(2);
const src = new URL("../../../src/", import.meta.url).href;
const gateway = await createGateway({ redis, model: "offline", offlineWordDelayMs: 0, autoTitle: false });
const { url } = await gateway.listen({ port: 0 });
while (!(await fetch(`${url}/readyz`)).ok) continue;
const inspector = new Session();
inspector.connect();

/** What is asked of this thread itself is answered at once. */
function told<Answer>(ask: (callback: (error: Error | null, answer?: Answer) => void) => void): Answer {
  const answers: Answer[] = [];
  ask((error, answer) => {
    if (error !== null) throw new Error(JSON.stringify(error));
    if (answer !== undefined) answers.push(answer);
  });
  const [answer] = answers;
  if (answer === undefined) throw new Error("The inspector did not answer.");
  return answer;
}

const takeCoverage = () =>
  told<Profiler.TakePreciseCoverageReturnType>((callback) => {
    inspector.post("Profiler.takePreciseCoverage", callback);
  }).result;

/** `awaited`: a session whose message is on its way; null: none is. */
const state: { awaited: string | null; onWay: boolean } = { awaited: null, onWay: false };
let called: readonly Profiler.ScriptCoverage[] = [];
const order: string[] = [];

subscribe("http.server.request.start", () => {
  if (state.awaited === null) return;
  state.onWay = true;
  takeCoverage();
});
const write = Reflect.get(Socket.prototype, "write") as (...given: unknown[]) => boolean; // called with its own `this`
Socket.prototype.write = function (this: Socket, ...given: unknown[]): boolean {
  const text = String(given[0]);
  if (state.onWay && state.awaited !== null && /evalsha/i.test(text) && text.includes(state.awaited)) {
    state.onWay = false;
    state.awaited = null;
    called = takeCoverage();
  }
  return Reflect.apply(write, this, given);
};

const expect = (sessionId: string) => void (state.awaited = sessionId);
const isAwaited = () => state.awaited !== null;

let sent = 0;
/** Its functions that were called, by script. */
async function send(): Promise<Map<string, Profiler.ScriptCoverage>> {
  const sessionId = `walk-${sent++}`;
  const query = 'mutation ($s: String!) { sendMessage(input: { sessionId: $s, text: "Hello" }) { reply { text } } }';
  expect(sessionId);
  const answer = await fetch(`${url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query, variables: { s: sessionId } }),
  });
  const text = await answer.text();
  if (text.includes('"errors"') || isAwaited()) throw new Error(`The message did not get to Redis: ${text}`);
  const ours = called.filter((script) => script.url.startsWith(src));
  return new Map(
    ours.flatMap((script) => {
      const functions = script.functions.filter(({ ranges: [whole] }) => (whole?.count ?? 0) > 0);
      return functions.length === 0 ? [] : [[script.url, { ...script, functions }]];
    }),
  );
}

inspector.post("Profiler.enable");
inspector.post("Debugger.enable");
inspector.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
// The first ones compile and connect; of what has a time of its own (timers) not all of several messages meet it.
for (let i = 0; i < 3; i++) await send();
const several = [await send(), await send(), await send()];
const [first = new Map<string, Profiler.ScriptCoverage>(), ...others] = several;
const scripts = [...first].filter(([file]) => others.every((one) => one.has(file)));

/** Where each function begins, so that its first call is noted. */
for (const [file, { scriptId, functions }] of scripts) {
  const source = told<Debugger.GetScriptSourceReturnType>((callback) => {
    inspector.post("Debugger.getScriptSource", { scriptId }, callback);
  }).scriptSource;
  const placeOf = (offset: number): Debugger.Location => {
    const before = source.slice(0, offset);
    return { scriptId, lineNumber: before.split("\n").length - 1, columnNumber: offset - before.lastIndexOf("\n") - 1 };
  };
  for (const { ranges } of functions) {
    const [whole] = ranges;
    if (whole === undefined) continue;
    const range = { start: placeOf(whole.startOffset), end: placeOf(whole.endOffset), restrictToFunction: true };
    const [location] = told<Debugger.GetPossibleBreakpointsReturnType>((callback) => {
      inspector.post("Debugger.getPossibleBreakpoints", range, callback);
    }).locations;
    const condition = `globalThis.meet(${JSON.stringify(file)})`;
    if (location !== undefined) inspector.post("Debugger.setBreakpoint", { location, condition });
  }
}
Object.assign(globalThis, {
  meet(file: string): boolean {
    if (state.onWay && !order.includes(file)) order.push(file);
    return false;
  },
});
await send();
process.send?.(order.map((file) => `src/${file.slice(src.length)}`));
await gateway.close({ graceMs: 0 });
inspector.disconnect();
process.disconnect();
