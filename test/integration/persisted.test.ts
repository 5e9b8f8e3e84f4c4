import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { Client, fetchExchange } from "@urql/core";
import type { OperationResult } from "@urql/core";
import { persistedExchange } from "@urql/exchange-persisted";
import { createClient } from "graphql-ws";
import { describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { persistedOperations, sha256Of } from "../../src/operations/documents.ts";
import { openAcknowledged, startTransport } from "../support/gateway/transport-server.ts";

const hello = "{ hello }";
const apq = (query: string) => ({ persistedQuery: { version: 1, sha256Hash: sha256Of(query) } });
const answer = { data: { hello: "Hello world" } };
const notFound = [{ message: "PersistedQueryNotFound", extensions: { code: "PERSISTED_QUERY_NOT_FOUND" } }];

const post = (url: string, body: object, accept = "application/json") =>
  fetch(url, { method: "POST", headers: { "content-type": "application/json", accept }, body: JSON.stringify(body) });

const get = (url: string, params: Readonly<Record<string, string>>) =>
  fetch(`${url}?${new URLSearchParams(params).toString()}`);

/** Counts what goes over the wire, and how much of it holds a document. */
function counted() {
  const requests: { readonly method: string; readonly withText: boolean; readonly status: number }[] = [];
  const fetcher: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    const sent = `${input instanceof Request ? input.url : String(input)} ${typeof init?.body === "string" ? init.body : ""}`;
    const withText = /[?&]query=|"query":"/.test(sent);
    requests.push({ method: init?.method ?? "GET", withText, status: response.status });
    return response;
  };
  return { requests, fetcher };
}

describe("automatic persisted queries", () => {
  test("over POST and GET: not found, registered, found", async () => {
    await using server = await startTransport();
    const extensions = apq(hello);
    const missed = await post(server.endpoint, { extensions });
    expect([missed.status, await missed.json()]).toEqual([200, { errors: notFound }]);
    const strict = await post(server.endpoint, { extensions }, "application/graphql-response+json");
    expect([strict.status, await strict.json()]).toEqual([400, { errors: notFound }]);
    expect(missed.headers.get("cache-control")).toBe("no-store");
    expect(await (await post(server.endpoint, { query: hello, extensions })).json()).toEqual(answer);
    for (let i = 0; i < 5; i += 1) expect(await (await post(server.endpoint, { extensions })).json()).toEqual(answer);
    expect(await (await get(server.endpoint, { extensions: JSON.stringify(extensions) })).json()).toEqual(answer);
    expect(await (await get(server.endpoint, { documentId: `sha256:${sha256Of(hello)}` })).json()).toEqual(answer);
  });

  test("a hash of another text is refused, and GET runs no mutation by its hash either", async () => {
    await using server = await startTransport();
    const mutation = "mutation { increment }";
    const lied = await post(server.endpoint, { query: mutation, extensions: apq(hello) });
    expect([lied.status, await lied.json()]).toEqual([
      400,
      { errors: [{ message: "provided sha does not match query", extensions: { code: "BAD_REQUEST" } }] },
    ]);
    await post(server.endpoint, { query: mutation, extensions: apq(mutation) });
    const extensions = JSON.stringify(apq(mutation));
    expect((await get(server.endpoint, { extensions })).status).toBe(405);
  });

  test("over WebSocket: an error of that operation alone", async () => {
    await using server = await startTransport();
    const raw = await openAcknowledged(server.endpoint);
    const ask = async (payload: object) => {
      raw.send({ id: "1", type: "subscribe", payload });
      const message = await raw.receive();
      if (message["type"] === "next") expect((await raw.receive())["type"]).toBe("complete");
      return message["payload"];
    };
    expect(await ask({ query: "", extensions: apq(hello) })).toEqual(notFound);
    expect(await ask({ query: hello, extensions: apq(hello) })).toEqual(answer);
    expect(await ask({ query: "", extensions: apq(hello) })).toEqual(answer);
    expect(await ask({ query: "", documentId: sha256Of(hello) })).toEqual(answer);
    // One process has one store, whichever way it came.
    expect(await (await post(server.endpoint, { extensions: apq(hello) })).json()).toEqual(answer);
  });

  test("a document that is refused is refused by its hash too", async () => {
    await using server = await startTransport({ queryLimits: { maxAliases: 1 } });
    const query = "{ a: hello b: hello }";
    for (const body of [{ query, extensions: apq(query) }, { extensions: apq(query) }]) {
      const response = await post(server.endpoint, body);
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: "TOO_COMPLEX" } }] });
    }
  });
});

describe("Apollo Client", () => {
  const client = (uri: string, fetcher: typeof fetch, useGETForHashedQueries: boolean) =>
    new ApolloClient({
      link: ApolloLink.from([
        new PersistedQueryLink({ sha256: sha256Of, useGETForHashedQueries }),
        new HttpLink({ uri, fetch: fetcher }),
      ]),
      cache: new InMemoryCache(),
      defaultOptions: { query: { fetchPolicy: "no-cache" } },
    });
  const query = gql`
    query Hello($name: String) {
      hello(name: $name)
    }
  `;

  test.each([true, false])("registers once, then sends hashes alone (by GET: %s)", async (byGet) => {
    await using server = await startTransport();
    const { requests, fetcher } = counted();
    const apollo = client(server.endpoint, fetcher, byGet);
    for (const name of ["Ann", "Bob", "Cy"]) {
      expect((await apollo.query({ query, variables: { name } })).data).toEqual({ hello: `Hello ${name}` });
    }
    expect(requests.map(({ method, withText }) => [method, withText])).toEqual([
      [byGet ? "GET" : "POST", false],
      ["POST", true],
      [byGet ? "GET" : "POST", false],
      [byGet ? "GET" : "POST", false],
    ]);
    apollo.stop();
  });

  test("stops sending hashes where they are switched off", async () => {
    await using server = await startTransport({ persisted: persistedOperations("off", new Map()) });
    const { requests, fetcher } = counted();
    const apollo = client(server.endpoint, fetcher, false);
    for (const name of ["Ann", "Bob"]) {
      expect((await apollo.query({ query, variables: { name } })).data).toEqual({ hello: `Hello ${name}` });
    }
    expect(requests.map(({ withText }) => withText)).toEqual([false, true, true]);
    apollo.stop();
  });

  test("over WebSocket, where its link sends the text beside the hash, only the listed is answered", async () => {
    const { print } = await import("graphql");
    const listed = print(query);
    await using server = await startTransport({ persisted: persistedOperations("only", new Map([["Hello", listed]])) });
    const socket = createClient({ url: server.endpoint.replace("http", "ws"), webSocketImpl: WebSocket });
    const apollo = new ApolloClient({
      link: ApolloLink.from([new PersistedQueryLink({ generateHash: () => "Hello" }), new GraphQLWsLink(socket)]),
      cache: new InMemoryCache(),
    });
    expect((await apollo.query({ query, variables: { name: "Ann" } })).data).toEqual({ hello: "Hello Ann" });
    apollo.stop();
    await socket.dispose();
  });
});

describe("urql", () => {
  type Exchange = Parameters<typeof persistedExchange>[0];
  const client = (url: string, fetcher: typeof fetch, options: Exchange) =>
    new Client({
      url,
      exchanges: [persistedExchange(options), fetchExchange],
      fetch: fetcher,
      fetchSubscriptions: true,
      preferGetMethod: false,
      requestPolicy: "network-only",
    });
  const query = "query Hello($name: String) { hello(name: $name) }";
  const told = ({ data, error }: OperationResult<unknown>) => ({ data, error: error?.message });

  test.each([true, false])("registers once, then sends hashes alone (by GET: %s)", async (byGet) => {
    await using server = await startTransport();
    const { requests, fetcher } = counted();
    const urql = client(server.endpoint, fetcher, { preferGetForPersistedQueries: byGet });
    for (const name of ["Ann", "Bob", "Cy"]) {
      expect(told(await urql.query(query, { name }))).toEqual({ data: { hello: `Hello ${name}` }, error: undefined });
    }
    expect(requests.map(({ method, withText }) => [method, withText])).toEqual([
      [byGet ? "GET" : "POST", false],
      // Its retry goes the same way, text and all; Apollo's does not.
      [byGet ? "GET" : "POST", true],
      [byGet ? "GET" : "POST", false],
      [byGet ? "GET" : "POST", false],
    ]);
  });

  test("mutations too, each executed once, and subscriptions", async () => {
    await using server = await startTransport();
    const { requests, fetcher } = counted();
    const urql = client(server.endpoint, fetcher, { enableForMutation: true, enableForSubscriptions: true });
    for (const increment of [1, 2, 3]) {
      expect(told(await urql.mutation("mutation Add { increment }", {}))).toEqual({
        data: { increment },
        error: undefined,
      });
    }
    expect(requests.map(({ withText }) => withText)).toEqual([false, true, false, false]);
    const heard: unknown[] = [];
    const subscription = urql
      .subscription("subscription Ticks { ticks { text } }", {})
      .subscribe((result) => heard.push(told(result)));
    server.probe.source.push({ text: "tick" });
    await expect.poll(() => heard).toEqual([{ data: { ticks: { text: "tick" } }, error: undefined }]);
    subscription.unsubscribe();
  });

  test("stops sending hashes where they are switched off", async () => {
    await using server = await startTransport({ persisted: persistedOperations("off", new Map()) });
    const { requests, fetcher } = counted();
    const urql = client(server.endpoint, fetcher, {});
    for (const name of ["Ann", "Bob"]) {
      expect(told(await urql.query(query, { name })).data).toEqual({ hello: `Hello ${name}` });
    }
    expect(requests.map(({ withText }) => withText)).toEqual([false, true, true]);
  });

  test("with hashes of a list, and nothing else on the wire, where only the listed is answered", async () => {
    await using server = await startTransport({ persisted: persistedOperations("only", new Map([["Hello", query]])) });
    const { requests, fetcher } = counted();
    const generateHash = (text: string) => Promise.resolve(/(?:query|mutation) (\w+)/.exec(text)?.[1] ?? "");
    const urql = client(server.endpoint, fetcher, { enforcePersistedQueries: true, generateHash });
    expect(told(await urql.query(query, { name: "Ann" })).data).toEqual({ hello: "Hello Ann" });
    const refused = await urql.query("query Other { hello }", {});
    expect(refused.error?.graphQLErrors[0]?.extensions).toEqual({ code: "PERSISTED_QUERY_NOT_FOUND" });
    expect(requests.map(({ withText }) => withText)).toEqual([false, false]);
  });
});

describe("only what is listed", () => {
  const persisted = persistedOperations(
    "only",
    new Map([
      ["Hello", hello],
      [sha256Of(hello), hello],
    ]),
  );
  const refused = {
    errors: [
      {
        message: "This operation is not on the list of this gateway, and no other is answered.",
        extensions: { code: "PERSISTED_QUERY_NOT_FOUND" },
      },
    ],
  };

  test("is answered over POST, GET and WebSocket; anything else is not even parsed", async () => {
    await using server = await startTransport({ persisted });
    const raw = await openAcknowledged(server.endpoint);
    for (const body of [{ documentId: "Hello" }, { id: "Hello" }, { extensions: apq(hello) }, { query: hello }]) {
      for (let i = 0; i < 4; i += 1) expect(await (await post(server.endpoint, body)).json()).toEqual(answer);
    }
    expect(await (await get(server.endpoint, { doc_id: "Hello" })).json()).toEqual(answer);
    for (const query of [
      '{ hello(name: "me") }',
      "{ __schema { queryType { name } } }",
      "{ no GraphQL",
      " { hello }",
    ]) {
      for (const body of [{ query }, { query, extensions: apq(query) }]) {
        const response = await post(server.endpoint, body);
        expect([response.status, await response.json()]).toEqual([400, refused]);
      }
      expect(await (await get(server.endpoint, { query })).json()).toEqual(refused);
      raw.send({ id: "1", type: "subscribe", payload: { query } });
      expect(await raw.receive()).toEqual({ id: "1", type: "error", payload: refused.errors });
    }
    raw.send({ id: "1", type: "subscribe", payload: { query: "", documentId: "Hello" } });
    expect(await raw.receive()).toEqual({ id: "1", type: "next", payload: answer });
  });

  test("refusals are counted", async () => {
    const { createMetrics } = await import("../../src/telemetry/metrics.ts");
    const metrics = createMetrics();
    await using server = await startTransport({ persisted, telemetry: metrics.telemetry });
    const raw = await openAcknowledged(server.endpoint);
    await post(server.endpoint, { query: "{ refused }" });
    raw.send({ id: "1", type: "subscribe", payload: { query: "{ refused }" } });
    await raw.receive();
    const rejections = (await metrics.text()).split("\n").filter((line) => line.startsWith("parley_rejections_total"));
    expect(rejections).toEqual(['parley_rejections_total{code="PERSISTED_QUERY_NOT_FOUND"} 2']);
  });
});
