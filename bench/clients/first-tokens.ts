import { once } from "node:events";
import { request } from "node:http";
import { WebSocket } from "ws";
import { machineMs, takeOrders } from "../orders.ts";
import { eventSubscription, graphqlBody, sendMutation } from "../queries.ts";
import { HttpConnection } from "./http-connection.ts";

interface Order {
  readonly url: string;
  readonly sessionIds: readonly string[];
}

const createMutation = `mutation Create($sessionId: String!) {
  createSession(input: { sessionId: $sessionId }) { session { id } }
}`;

/** Reads a stream of text; gives how long its first piece took, in ms. */
async function firstPiece(url: string, sessionId: string): Promise<number> {
  const start = machineMs();
  const sending = request(`${url}/stream`, { method: "POST", headers: { "content-type": "application/json" } });
  sending.end(JSON.stringify({ sessionId, windowTurns: null }));
  const [response] = (await once(sending, "response")) as [AsyncIterable<Buffer>]; // Safe: node:http says so.
  let first: number | null = null;
  for await (const piece of response) if (piece.length > 0) first ??= machineMs() - start;
  if (first === null) throw new Error("There was no text");
  return first;
}

/** Follows a session over the socket, sends a message over HTTP, and waits for text; then for the reply's end. */
async function firstProgress(http: HttpConnection, socket: WebSocket, sessionId: string): Promise<number> {
  await http.post("/graphql", graphqlBody(createMutation, { sessionId }));
  const opened = Promise.withResolvers<undefined>();
  const ended = Promise.withResolvers<undefined>();
  let start = 0;
  let first: number | null = null;
  let runs = 0;
  const listen = (data: Buffer) => {
    const text = data.toString("utf8");
    if (text.includes('"StreamOpened"')) opened.resolve(undefined);
    if (text.includes('"ReplyProgress"')) first ??= machineMs() - start;
    // One says that it has begun, one that it has ended.
    if (text.includes('"RunChanged"') && ++runs === 2) ended.resolve(undefined);
    if (text.includes('"errors"')) ended.reject(new Error(text));
  };
  socket.on("message", listen);
  const payload = { query: eventSubscription, variables: { sessionId } };
  socket.send(JSON.stringify({ id: sessionId, type: "subscribe", payload }));
  await opened.promise;
  start = machineMs();
  const { status, body } = await http.post("/graphql", graphqlBody(sendMutation, { sessionId }));
  if (status !== 200 || body.includes('"errors"')) throw new Error(body.toString("utf8"));
  await ended.promise;
  socket.off("message", listen);
  socket.send(JSON.stringify({ id: sessionId, type: "complete" }));
  if (first === null) throw new Error("There was no text");
  return first;
}

const orders = {
  async express({ url, sessionIds }: Order): Promise<readonly number[]> {
    const times: number[] = [];
    for (const sessionId of sessionIds) times.push(await firstPiece(url, sessionId));
    return times;
  },

  async parley({ url, sessionIds }: Order): Promise<readonly number[]> {
    const http = await HttpConnection.open(url);
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}/graphql`, "graphql-transport-ws");
    await once(socket, "open");
    socket.send('{"type":"connection_init"}');
    await once(socket, "message");
    const times: number[] = [];
    for (const sessionId of sessionIds) times.push(await firstProgress(http, socket, sessionId));
    http.close();
    socket.close();
    return times;
  },
};

export type FirstTokens = typeof orders;

takeOrders(orders);
