import { Agent, request } from "node:http";
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";
import type { Testimony, WitnessOrder } from "./witness.ts";

// A well-behaved client in a process of its own, so that what a test does to the gateway does not slow the clock that
// the gateway is held against. It comes from another address than the attackers, as it would outside.

const [url = "", sessionId = ""] = process.argv.slice(2);
const localAddress = "127.0.0.2";
const agent = new Agent({ keepAlive: true, localAddress });

function ask(query: string, variables: object): Promise<{ readonly status: number; readonly body: string }> {
  const body = JSON.stringify({ query, variables });
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const asking = request(url, { method: "POST", agent, headers, localAddress }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => (text += chunk));
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
      response.once("error", reject);
    });
    asking.once("error", reject);
    asking.end(body);
  });
}

const page = `query ($id: String!) { session(sessionId: $id) { messages(last: 20) { edges { cursor node { id text } } } } }`;
const add = `mutation ($id: String!, $text: String!) {
  addMessages(input: { sessionId: $id, messages: [{ role: USER, text: $text }] }) { session { id } }
}`;
const added = `subscription ($id: String!) { messageAdded(sessionId: $id) { text } }`;

const heard: string[] = [];
const written: string[] = [];
const problems: string[] = [];
let times: number[] = [];
/** While it tells, nothing new is written. */
const state = { running: true, telling: false };

async function write(): Promise<void> {
  const text = `word ${written.length}`;
  const { status, body } = await ask(add, { id: sessionId, text });
  if (status === 200 && !body.includes('"errors"')) written.push(text);
  else problems.push(`${status} ${body.slice(0, 300)}`);
}

async function look(): Promise<void> {
  const startedAt = performance.now();
  const { status, body } = await ask(page, { id: sessionId });
  times.push(performance.now() - startedAt);
  if (status !== 200 || !body.includes('"edges"')) problems.push(`${status} ${body.slice(0, 300)}`);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const allHeard = () => heard.length >= written.length;

class LocalWebSocket extends WebSocket {
  constructor(address: string, protocols: string | string[]) {
    super(address, protocols, { localAddress });
  }
}

await write();
const socket = createClient({ url: url.replace("http", "ws"), webSocketImpl: LocalWebSocket, retryAttempts: 0 });
heard.push("word 0"); // written ahead of the subscription
socket.subscribe<{ readonly messageAdded: { readonly text: string } }>(
  { query: added, variables: { id: sessionId } },
  {
    next({ data, errors }) {
      if (data) heard.push(data.messageAdded.text);
      if (errors) problems.push(JSON.stringify(errors));
    },
    error: (error) => problems.push(`The subscription broke: ${JSON.stringify(error)}`),
    complete: () => problems.push("The subscription ended"),
  },
);
while (!allHeard() || heard.length < 2) {
  await write();
  for (let i = 0; i < 100 && !allHeard(); i++) await pause(20);
  // What came before the subscription stood is not told: only what comes from here on counts.
  if (!allHeard()) heard.push(...written.slice(heard.length));
}

process.on("message", (order: WitnessOrder) => {
  if (order === "take") void testify();
  else {
    state.running = false;
    process.disconnect();
  }
});

async function testify(): Promise<void> {
  state.telling = true;
  const told = times.toSorted((a, b) => a - b);
  times = [];
  for (let i = 0; i < 1000 && !allHeard(); i++) await pause(20);
  const at = (q: number) => told[Math.min(told.length - 1, Math.floor(told.length * q))] ?? Number.NaN;
  const testimony: Testimony = {
    requests: told.length,
    medianMs: at(0.5),
    p99Ms: at(0.99),
    problems: problems.splice(0),
    heard: heard.length,
    // One that is being written may be heard ahead of its answer.
    inOrder: heard.every((text, i) => text === `word ${i}`) && allHeard(),
  };
  state.telling = false;
  process.send?.(testimony);
}

process.send?.("ready");
for (let round = 0; state.running; round++) {
  try {
    await look();
    if (round % 5 === 0 && !state.telling) await write();
  } catch (error) {
    problems.push(String(error));
  }
  await pause(10);
}
await socket.dispose();
agent.destroy();
