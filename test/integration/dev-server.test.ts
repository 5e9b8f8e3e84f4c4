import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

import { expect, test } from "vitest";
import { createServer } from "vite";

import { openAcknowledged, post, startTransport } from "../support/gateway/transport-server.ts";

const root = new URL("../../", import.meta.url).pathname;

test("Vite with the configuration of docs/live.md brings HTTP, streams and WebSockets to the gateway", async () => {
  await using gateway = await startTransport();
  const page = await readFile(join(root, "docs/live.md"), "utf8");
  const [, config = ""] = /^```ts\n\/\/ vite.config.ts\n([\s\S]*?)^```$/m.exec(page) ?? [];
  expect(config).toContain("http://127.0.0.1:4000");
  // Where the configuration finds Vite itself.
  await mkdir(join(root, "node_modules/.cache"), { recursive: true });
  const folder = await mkdtemp(join(root, "node_modules/.cache/dev-server-"));
  const configFile = join(folder, "vite.config.ts");
  await writeFile(configFile, config.replace("http://127.0.0.1:4000", gateway.url));
  const vite = await createServer({
    root: folder,
    configFile,
    logLevel: "error",
    server: { port: 0, host: "127.0.0.1" },
  });
  try {
    await vite.listen();
    const { port } = vite.httpServer?.address() as AddressInfo; // it listens to a port
    const endpoint = `http://127.0.0.1:${port}/graphql`;
    const origin = `http://127.0.0.1:${port}`;
    expect(await (await post(endpoint, "{ hello }", { origin })).json()).toEqual({ data: { hello: "Hello world" } });
    gateway.probe.source.push({ text: "one" });
    gateway.probe.source.end();
    const ticks = "subscription { ticks { text } }";
    expect(await (await post(endpoint, ticks, { accept: "text/event-stream", origin })).text()).toContain('"one"');
    const raw = await openAcknowledged(endpoint);
    raw.send({ id: "1", type: "subscribe", payload: { query: "{ hello }" } });
    expect(await raw.receive()).toMatchObject({ type: "next", payload: { data: { hello: "Hello world" } } });
    raw.socket.terminate();
  } finally {
    await vite.close();
    await rm(folder, { recursive: true });
  }
});
