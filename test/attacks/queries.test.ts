import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { spawnGateway, type GatewayProcess } from "../support/gateway/gateway.ts";
import { startRedis, type TestRedis } from "../support/redis/redis-server.ts";
import { addMessages, chosenId } from "../support/gateway/conversation.ts";
import { command } from "../support/redis/redis-command.ts";
import { openAcknowledged } from "../support/gateway/transport-server.ts";
import { startWitness, type Witness } from "../support/redis/witness.ts";

let server: TestRedis;
let gateway: GatewayProcess;
let witness: Witness;

beforeAll(async () => {
  server = await startRedis({ appendonly: false });
  gateway = await spawnGateway({ REDIS_URL: server.url, NODE_ENV: "production" });
  witness = await startWitness(gateway.url, "witness");
});

afterAll(async () => {
  await witness.leave();
  await gateway.stop();
  await server.stop();
});

const times = (count: number, make: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => make(i)).join(" ");
const deep = (levels: number) => `${"{ viewer ".repeat(levels)}${"}".repeat(levels)}`;
const bomb = `{ viewer { ...F0 } } ${times(26, (i) => `fragment F${i} on Viewer { ...F${i + 1} ...F${i + 1} }`)} fragment F26 on Viewer { subject }`;

const queries: Readonly<Record<string, { readonly query: string; readonly status: number }>> = {
  "a flood of aliases": { query: `{ ${times(5000, (i) => `a${i}: __typename`)} }`, status: 400 },
  "one field repeated": { query: `{ ${"__typename ".repeat(90_000)} }`, status: 400 },
  "a flood of directives": { query: `{ __typename ${"@skip(if: false) ".repeat(5000)} }`, status: 400 },
  "a flood of unknown directives": { query: `{ __typename ${"@x ".repeat(5000)} }`, status: 400 },
  "a bomb of fragments": { query: bomb, status: 400 },
  "fragments in a circle": { query: "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }", status: 400 },
  "a selection 20,000 deep": { query: deep(20_000), status: 400 },
  "a list 20,000 deep": { query: `{ node(id: ${"[".repeat(20_000)}${"]".repeat(20_000)}) { id } }`, status: 400 },
  "20,000 fragments, each in the next": {
    query: `{ ...F0 } ${times(20_000, (i) => `fragment F${i} on Query { ...F${i + 1} }`)}`,
    status: 400,
  },
  "a name that a hundred errors would repeat": {
    query: `query ${"N".repeat(400_000)}(${times(100, (i) => `$v${i}: Int`)}) { __typename }`,
    status: 400,
  },
  "a literal of 900 KB": { query: `{ session(sessionId: "${"x".repeat(900_000)}") { id } }`, status: 200 },
  "a comment of 900 KB": { query: `{ __typename } # ${"x".repeat(900_000)}`, status: 200 },
  "900 KB of commas": { query: `{ __typename ${",".repeat(900_000)} }`, status: 200 },
  "a comment of 5 MB": { query: `{ __typename } # ${"x".repeat(5_000_000)}`, status: 413 },
  "pages of pages": {
    query: `{ sessions(first: 100) { nodes { messages(first: 200) { nodes { session { messages(first: 200) { nodes { text } } } } } } } }`,
    status: 400,
  },
};

const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  fetch(gateway.url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/graphql-response+json", ...headers },
    body,
  });

/** null: the connection was closed while the body was still on its way, which is what 413 comes with. */
async function postOrCut(body: string): Promise<Response | null> {
  try {
    return await post(body);
  } catch (error) {
    const { cause } = error as { readonly cause?: { readonly code?: string } }; // as fetch has it
    if (body.length > 1024 * 1024 && /^(EPIPE|ECONNRESET|UND_ERR_SOCKET)$/.test(cause?.code ?? "")) return null;
    throw error;
  }
}

describe("over HTTP, forty times by eight clients at once, while others are served", () => {
  test.each(Object.entries(queries))("%s", async (_name, { query, status }) => {
    const body = JSON.stringify({ query });
    const statuses = new Set<number>();
    const attacker = async () => {
      for (let i = 0; i < 5; i++) {
        const response = await postOrCut(body);
        if (response === null) {
          statuses.add(413);
          continue;
        }
        statuses.add(response.status);
        const text = await response.text();
        expect(text.length).toBeLessThan(100_000);
        if (status !== 200)
          expect(JSON.parse(text)).toMatchObject({ errors: [{ message: expect.any(String) as unknown }] });
      }
    };
    await witness.servedDuring(() => Promise.all(Array.from({ length: 8 }, attacker)));
    expect([...statuses]).toEqual([status]);
  });

  test("variables 20,000 deep, numbers without end, keys that mean something to JavaScript", async () => {
    const query =
      'query ($v: JSONObject) { __typename @include(if: true) ...F @skip(if: true) } fragment F on Query { session(sessionId: "x") { id } }';
    const bodies = [
      `{"query":"mutation ($m: JSONObject) { createSession(input: { metadata: $m }) { session { id } } }","variables":{"m":${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}}}`,
      `{"query":"{ sessions(first: 1e999) { nodes { id } } }"}`,
      `{"query":"query ($n: Int) { sessions(first: $n) { nodes { id } } }","variables":{"n":${"9".repeat(100_000)}}}`,
      JSON.stringify({ query: "{ __typename }", variables: null }).replace(
        "null",
        '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}',
      ),
      JSON.stringify({ query }),
      `{"query":"{ __typename }","query":"{ broken"}`,
      `{"query":"{ __typename }","operationName":"\\u0000\\u001b[2J<script>"}`,
    ];
    await witness.servedDuring(async () => {
      for (const body of bodies) expect((await post(body)).status).toBeLessThan(500);
      const invalid = Buffer.concat([
        Buffer.from('{"query":"{ __typename } #'),
        Buffer.from([0xff, 0xfe, 0xc0]),
        Buffer.from('"}'),
      ]);
      expect((await post(new Uint8Array(invalid))).status).toBeLessThan(500);
    });
    const answer: unknown = await (await post(JSON.stringify({ query: "{ __typename }" }))).json();
    expect(answer).toEqual({ data: { __typename: "Query" } });
  });

  test("compressed bodies are refused, not unpacked", async () => {
    const packed = new Uint8Array(gzipSync(Buffer.alloc(200_000_000, 32)));
    await witness.servedDuring(async () => {
      for (const encoding of ["gzip", "deflate", "br"]) {
        const { status } = await post(packed, { "content-encoding": encoding });
        expect(status).toBe(415);
      }
    });
  });
});

test("over a WebSocket each is an error of its operation, and the socket goes on", async () => {
  const raw = await openAcknowledged(gateway.url);
  await witness.servedDuring(async () => {
    for (const [name, { query, status }] of Object.entries(queries)) {
      if (status !== 400) continue;
      raw.send({ id: name, type: "subscribe", payload: { query } });
      const { id, type, payload } = await raw.receive();
      expect({ id, type }).toEqual({ id: name, type: "error" });
      expect(payload).toMatchObject([{ message: expect.any(String) as unknown }]);
    }
  });
  raw.send({ id: "after", type: "subscribe", payload: { query: "{ __typename }" } });
  expect(await raw.receive()).toMatchObject({ id: "after", type: "next" });
  raw.socket.close();
  await raw.closed;
});

/** Microseconds that Redis has spent in the gateway's scripts. */
async function scriptTime(): Promise<number> {
  const stats = await command<string>(server, "INFO", "commandstats");
  return Number(/cmdstat_evalsha(?:_ro)?:calls=\d+,usec=(\d+)/.exec(stats)?.[1] ?? 0);
}

test("many ids that are in the texts of all rows take Redis little longer than one", async () => {
  const names = Array.from({ length: 25 }, (_, i) => `planted-${i}`);
  const planted = { role: "USER", content: [{ other: { type: "planted", names, pad: "x".repeat(1000) } }] };
  for (let i = 0; i < 4; i++)
    await addMessages(
      gateway.url,
      "planted",
      Array.from({ length: 500 }, () => planted),
    );
  const cost = async (ids: readonly string[]) => {
    const pages = ids.map(
      (id, i) => `p${i}: messages(first: 1, before: "${chosenId("planted", id)}") { nodes { id } }`,
    );
    const query = `{ session(sessionId: "planted") { ${pages.join(" ")} } }`;
    const taken: number[] = [];
    // The least of several: another process may have the processor meanwhile.
    for (let i = 0; i < 5; i++) {
      const before = await scriptTime();
      expect(await (await post(JSON.stringify({ query }))).text()).toContain("CURSOR_EXPIRED");
      taken.push((await scriptTime()) - before);
    }
    return Math.min(...taken);
  };
  const one = await cost(names.slice(0, 1));
  expect(one).toBeGreaterThan(0);
  expect((await cost(names)) / one).toBeLessThan(8);
});
