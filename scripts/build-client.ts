/** `npm run build`, for the package parley-client: JavaScript and types by the compiler alone, and the list of its operations. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import * as documents from "../packages/client/src/documents.ts";

const from = (path: string) => fileURLToPath(new URL(path, new URL("..", import.meta.url)));

rmSync(from("packages/client/dist"), { recursive: true, force: true });
const flags = ["--noEmit", "false", "--declaration", "--outDir", from("packages/client/dist")];
execFileSync(process.execPath, [from("node_modules/typescript/bin/tsc"), "-p", from("packages/client"), ...flags], {
  stdio: "inherit",
});
// What PERSISTED_OPERATIONS_FILE takes: each document by its hash.
const list = Object.values(documents).map((text) => [createHash("sha256").update(text).digest("hex"), text]);
writeFileSync(from("packages/client/dist/operations.json"), `${JSON.stringify(Object.fromEntries(list), null, 2)}\n`);
