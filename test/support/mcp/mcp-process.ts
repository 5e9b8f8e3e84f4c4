/** A server over stdio: `node mcp-process.ts FILE` appends what happens in it to FILE. */
import { appendFileSync } from "node:fs";

import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";

import { testMcpServer } from "./mcp-tools.ts";

const [, , file] = process.argv;
await testMcpServer((what) => {
  if (file !== undefined) appendFileSync(file, `${what}\n`);
}).connect(new StdioServerTransport());
process.stderr.write("The test's server is up.\n");
