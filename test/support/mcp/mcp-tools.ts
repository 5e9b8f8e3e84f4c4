import { setTimeout as sleep } from "node:timers/promises";

import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { z } from "zod";

/** A server of the Model Context Protocol as tests need it. `note`: what happened in it, which they look at. */
export function testMcpServer(note: (what: string) => void): McpServer {
  const server = new McpServer({ name: "test", version: "1" });
  const text = (said: string) => ({ content: [{ type: "text" as const, text: said }] });
  server.registerTool(
    "echo",
    { description: "Says it again.", inputSchema: { text: z.string() } },
    ({ text: said }) => {
      note(`echo ${said}`);
      return text(`You said ${said}.`);
    },
  );
  server.registerTool("environment", { description: "Which variables it sees." }, () =>
    text(JSON.stringify(Object.keys(process.env).sort())),
  );
  server.registerTool("capabilities", { description: "What its client can do." }, () =>
    text(JSON.stringify(server.server.getClientCapabilities())),
  );
  server.registerTool("pid", { description: "Of its process." }, () => text(String(process.pid)));
  server.registerTool("wait", { description: "Waits until it is cancelled." }, async ({ signal }) => {
    note("waiting");
    await sleep(600_000, undefined, { signal }).catch(() => note("cancelled"));
    return text("It waited.");
  });
  server.registerTool("fail", { description: "Fails." }, () => ({
    ...text("No such city. password=hunter2"),
    isError: true,
  }));
  server.registerTool("big", { description: "A long answer.", inputSchema: { bytes: z.number() } }, ({ bytes }) =>
    text("x".repeat(bytes)),
  );
  server.registerTool("crash", { description: "Ends its process." }, () => process.exit(3));
  server.registerTool("picture", { description: "A bit of everything.", outputSchema: { width: z.number() } }, () => ({
    content: [
      { type: "text" as const, text: "A picture" },
      { type: "image" as const, mimeType: "image/png", data: "AAAA" },
      { type: "resource" as const, resource: { uri: "mem://a", mimeType: "text/plain", text: "Of Rome." } },
      { type: "resource_link" as const, uri: "https://example.test/a.pdf", name: "More" },
    ],
    structuredContent: { width: 1 },
  }));
  return server;
}
