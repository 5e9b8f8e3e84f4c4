// A server of the Model Context Protocol with two tools. Parley starts it: AGENTS_FILE=examples/agents/agents.json npm start
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "example", version: "1" });
const said = (text) => ({ content: [{ type: "text", text }] });
const remembered = [];

server.registerTool("time", { description: "What time it is." }, () => said(new Date().toISOString()));
server.registerTool(
  "remember",
  { description: "Remembers something, and tells everything that it remembers.", inputSchema: { what: z.string() } },
  ({ what }) => {
    remembered.push(what);
    return said(remembered.join("\n"));
  },
);

await server.connect(new StdioServerTransport());
