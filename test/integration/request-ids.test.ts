import { expect, test } from "vitest";
import { openRaw, post, startTransport } from "../support/gateway/transport-server.ts";

test("a request's id comes back with its answer and stands in the lines that it logs", async () => {
  await using server = await startTransport();
  const named = await post(server.endpoint, "{ broken }", { "x-request-id": "from-the-proxy.1" });
  expect(named.headers.get("x-request-id")).toBe("from-the-proxy.1");
  const [first, second] = await Promise.all([
    post(server.endpoint, "{ broken }"),
    post(server.endpoint, "{ broken }", { "x-request-id": "not acceptable: \u00e9\u00e9" }),
  ]);
  const ids = [first, second].map((response) => response.headers.get("x-request-id") ?? "");
  for (const id of ids) expect(id).toMatch(/^[0-9a-f-]{36}$/);
  const logged = server.probe.logged.map(({ fields }) => (fields as { requestId?: string }).requestId); // what we log
  expect(logged.toSorted()).toEqual(["from-the-proxy.1", ...ids].toSorted());
});

test("log lines of a WebSocket carry the request id of its upgrade", async () => {
  await using server = await startTransport();
  const socket = await openRaw(server.endpoint, undefined, { "x-request-id": "socket-7" });
  socket.send({ type: "connection_init" });
  expect(await socket.receive()).toMatchObject({ type: "connection_ack" });
  socket.send({ type: "subscribe", id: "1", payload: { query: "{ broken }" } });
  await socket.receive();
  expect(server.probe.logged.map(({ fields }) => fields)).toMatchObject([{ requestId: "socket-7" }]);
  socket.socket.close();
});
