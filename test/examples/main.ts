import { cp, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";

import { findChromium } from "../support/browser/unpack-chromium.ts";
import { chat, stop } from "./drive.ts";
import { startPackedGateway } from "./packed-gateway.ts";
import type { PackedGateway } from "./packed-gateway.ts";
import { freePort, run, start, whenReady } from "./processes.ts";

// npm run examples [NAME ...] [-- --images]: packs both packages, installs each example as its README says, drives it against a
// gateway of the tarball, and prints what came of it. --images: takes the screenshots of the docs anew.

const root = fileURLToPath(new URL("../../", import.meta.url));
const folders = (await readdir(join(root, "examples"), { withFileTypes: true })).filter((entry) => entry.isDirectory());
const names: string[] = [];
for (const { name } of folders) {
  const files = await readdir(join(root, "examples", name));
  if (files.includes("package.json") || files.includes("requirements.txt")) names.push(name);
}

/** The others look like the first. */
const withImage = ["react", "ai-sdk", "assistant-ui", "copilotkit"];
/** Of those that have one: what stops a reply. */
const stopButtons: Readonly<Record<string, string>> = {
  "ai-sdk": 'button:text-is("Stop")',
  "assistant-ui": 'button:text-is("Stop")',
  copilotkit: '[data-testid="copilot-send-button"]',
};
const yesOrNo = [() => true, () => false] as const;
const isThere = (page: string) =>
  fetch(page).then(
    ({ ok }) => ok,
    () => false,
  );

const wanted = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const takesImages = process.argv.includes("--images");
const unknown = wanted.filter((name) => !names.includes(name));
if (unknown.length > 0) throw new Error(`No example is called ${unknown.join(", ")}. There are: ${names.join(", ")}`);

const parent = await mkdtemp(join(tmpdir(), "parley-examples-"));
let failed = false;
let gateway: PackedGateway | undefined;
let browser: Browser | undefined;
try {
  await run("npm", ["pack", "-w", "parley-client", "--include-workspace-root", "--pack-destination", parent], root);
  const tarballs = await readdir(parent);
  const packed = tarballs.find((name) => name.startsWith("parley-gateway-"));
  if (packed === undefined) throw new Error(`npm pack gave no gateway, but ${tarballs.join(", ")}`);
  gateway = await startPackedGateway(join(parent, "gateway"), join(parent, packed));
  const { executablePath, env } = await findChromium();
  browser = await chromium.launch({
    executablePath,
    env,
    args: ["--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  console.log("| example | versions | result | seconds |\n| --- | --- | --- | --- |");
  for (const name of wanted.length > 0 ? wanted : names) {
    const began = Date.now();
    const folder = join(parent, name);
    await mkdir(folder);
    await cp(join(root, "examples", name), folder, { recursive: true, filter: isSource });
    await gateway.forget("jim");
    let result = "works";
    try {
      result = (await tryExample(name, folder, gateway, browser)) ?? result;
    } catch (error) {
      failed = true;
      result = "FAILED";
      console.error(error);
    }
    const seconds = Math.round((Date.now() - began) / 1000);
    console.log(`| ${name} | ${await versionsOf(folder)} | ${result} | ${seconds} |`);
    // One of them has half a gigabyte.
    await rm(folder, { recursive: true });
  }
} finally {
  await browser?.close();
  await gateway?.stop();
  await rm(parent, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);

/** Gives why it was skipped; null: it was not. */
async function tryExample(
  name: string,
  folder: string,
  { url, redisUrl, newestRun }: PackedGateway,
  visitor: Browser,
): Promise<string | null> {
  const variables = { PARLEY_URL: url, REDIS_URL: redisUrl };
  if (name === "python-side-by-side") {
    // Its README's first command needs PyPI, which a machine may not reach: it is tried where the packages are there already.
    const isInstalled = await run("python3", ["-c", "import langchain_community, redis"], folder).then(...yesOrNo);
    if (!isInstalled) return "skipped: no pip packages";
    return says(await run("python3", ["main.py"], folder, variables));
  }
  await run("npm", ["ci"], folder);
  const { scripts } = await manifestOf(folder);
  if (scripts["build"] !== undefined) await run("npm", ["run", "build"], folder, variables);
  if (name === "langchain-side-by-side") return says(await run("npm", ["start"], folder, variables));
  const port = await freePort();
  const started = start("npm", ["start", "--", "--port", String(port)], folder, { ...variables, PORT: String(port) });
  try {
    const page = `http://localhost:${port}/`;
    await whenReady(started, page, async () => ((await isThere(page)) ? page : null));
    await chat(visitor, page, imageOf(name));
    const button = stopButtons[name];
    if (button !== undefined) await stop(visitor, page, button, () => newestRun("jim"));
  } finally {
    await started.stop();
  }
  return null;
}

function imageOf(name: string): string | null {
  return takesImages && withImage.includes(name) ? join(root, `docs/images/example-${name}.png`) : null;
}

/** What both programs print in the end, having read the history by LangChain. */
function says(output: string): null {
  const [, history = ""] = output.split("LangChain reads:");
  const missing = ["Hi! I'm Jim.", "Hello Jim!", "What is my name?"].filter((text) => !history.includes(text));
  if (missing.length > 0) throw new Error(`"${missing.join('", "')}" is not in what LangChain reads:\n${output}`);
  return null;
}

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

async function manifestOf(folder: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as Manifest; // ours
}

async function versionsOf(folder: string): Promise<string> {
  if ((await readdir(folder)).includes("requirements.txt")) {
    return (await readFile(join(folder, "requirements.txt"), "utf8")).trim().split("\n").join(", ");
  }
  const { dependencies } = await manifestOf(folder);
  const others = Object.entries(dependencies).filter(([, version]) => !version.startsWith("file:"));
  return others.map(([dependency, version]) => `${dependency} ${version}`).join(", ");
}

/** What was built or installed there by hand is not taken along. */
function isSource(path: string): boolean {
  return !["node_modules", "dist", ".next", "__generated__", "schema.graphql"].includes(basename(path));
}
