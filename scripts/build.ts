/** `npm run build`: JavaScript and types into dist/, for the package and the Docker image. */
import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { buildConsole } from "./build-console.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const from = (path: string) => fileURLToPath(new URL(path, new URL("..", import.meta.url)));

rmSync(from("dist"), { recursive: true, force: true });
execFileSync(process.execPath, [from("node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"], {
  cwd: root,
  stdio: "inherit",
});
// The compiler takes no notice of the scripts for Redis.
for (const path of readdirSync(from("src/redis/scripts"), { recursive: true, encoding: "utf8" })) {
  if (path.endsWith(".lua")) cpSync(from(`src/redis/scripts/${path}`), from(`dist/redis/scripts/${path}`));
}
await buildConsole();
