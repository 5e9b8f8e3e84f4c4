import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, expect, test } from "vitest";

import { project, removeProjects, run } from "../support/gateway/client-project.ts";

afterAll(removeProjects);

test("graphql-codegen's client preset gives types that a strict program compiles with", async () => {
  const folder = await project("codegen");
  await cp(join(folder, "chat.ts.txt"), join(folder, "chat.ts"));
  await run(folder, "graphql-codegen", "--config", "codegen.ts");
  await run(folder, "tsc", "--project", "tsconfig.chat.json");

  // The same program with one field misspelt is no program.
  const chat = await readFile(join(folder, "chat.ts"), "utf8");
  await writeFile(join(folder, "chat.ts"), chat.replace("run.error.message", "run.error.massage"));
  await expect(run(folder, "tsc", "--project", "tsconfig.chat.json")).rejects.toThrow(/massage/);
});
