import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const folders: string[] = [];

/** A copy of one of test/clients' folders with the schema beside it: what is generated stays out of the repository. */
export async function project(name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "parley-clients-"));
  folders.push(folder);
  await cp(join(root, "test/clients", name), folder, { recursive: true });
  await cp(join(root, "schema.graphql"), join(folder, "schema.graphql"));
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await mkdir(join(folder, "artifacts")); // relay-compiler makes none itself
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  return folder;
}

/** Runs a package's command; rejects with what it said where it fails. */
export async function run(folder: string, command: string, ...args: string[]): Promise<void> {
  const script = join(root, "node_modules/.bin", command);
  try {
    await promisify(execFile)(process.execPath, [script, ...args], { cwd: folder });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }; // execFile's error
    throw new Error(`${command} failed:\n${stdout}\n${stderr}`, { cause: error });
  }
}

export async function removeProjects(): Promise<void> {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
}
