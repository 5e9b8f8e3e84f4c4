import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Redis } from "ioredis";
import { WebSocketServer, type WebSocket } from "ws";
import { settings, takeOrders } from "../orders.ts";

/**
 * The least that a broadcast over `ws` can be: what Redis brings is put into one frame's text, which is sent to each
 * socket. No GraphQL, nobody's authorization, no check of what was missed; all have the same operation id.
 */
const redis = new Redis(settings<{ readonly redisUrl: string }>().redisUrl);
const rooms = new Map<string, Set<WebSocket>>();
const server = new WebSocketServer({ port: 0, host: "127.0.0.1", path: "/graphql", perMessageDeflate: false });

async function join(socket: WebSocket, sessionId: string): Promise<void> {
  const channel = `message:${sessionId}`;
  const room = rooms.get(channel) ?? new Set();
  room.add(socket);
  socket.on("close", () => room.delete(socket));
  if (rooms.has(channel)) return;
  rooms.set(channel, room);
  await redis.subscribe(channel);
}

server.on("connection", (socket) => {
  socket.on("message", (data) => {
    // Safe, both: the benchmark's readers send it, as text.
    const { type, payload } = JSON.parse((data as Buffer).toString("utf8")) as {
      readonly type: string;
      readonly payload?: { readonly variables: { readonly sessionId: string } };
    };
    if (type === "connection_init") socket.send('{"type":"connection_ack"}');
    else if (payload) join(socket, payload.variables.sessionId).catch(() => socket.close(1011));
  });
});
redis.on("message", (channel, message) => {
  const messageAdded: unknown = JSON.parse(message);
  const text = JSON.stringify({ id: "1", type: "next", payload: { data: { messageAdded } } });
  for (const socket of rooms.get(channel) ?? []) socket.send(text);
});
await once(server, "listening");
// Safe: a server that listens on TCP has a port.
takeOrders({}, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
