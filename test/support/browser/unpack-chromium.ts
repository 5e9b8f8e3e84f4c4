import { access, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import type { TestProject } from "vitest/node";

/** What starts a Chromium. */
export interface Chromium {
  readonly executablePath: string;
  readonly env: Readonly<Record<string, string>>;
}

declare module "vitest" {
  interface ProvidedContext {
    readonly chromium: Chromium;
  }
}

/** Vitest's globalSetup of the project `pages`: once for all its workers. */
export default async function setup(project: TestProject): Promise<void> {
  project.provide("chromium", await findChromium());
}

/**
 * The Chromium of the package @sparticuz/chromium, unpacked into a folder of the checkout, with the libraries and the font
 * that come along: a machine that has only Node needs no more. Elsewhere than on x86-64 Linux, the one that CHROME_PATH names.
 */
export async function findChromium(): Promise<Chromium> {
  const { CHROME_PATH, HOME = "/tmp" } = process.env;
  if (CHROME_PATH !== undefined) return { executablePath: CHROME_PATH, env: { HOME } };
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error("The tests in a browser need CHROME_PATH here: the Chromium from npm is for x86-64 Linux alone.");
  }
  const manifest = join(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")), "..", "package.json");
  const { default: chromium } = (await import(manifest, { with: { type: "json" } })) as {
    default: { version: string };
  };
  const cache = fileURLToPath(new URL("../../../node_modules/.cache/", import.meta.url));
  const folder = join(cache, `chromium-${chromium.version}`);
  const isThere = await access(folder).then(
    () => true,
    () => false,
  );
  if (!isThere) await unpack(join(dirname(manifest), "bin"), cache, folder);
  return {
    executablePath: join(folder, "chromium"),
    // HOME: where it keeps what it writes besides its profile.
    env: { HOME: folder, LD_LIBRARY_PATH: join(folder, "al2023", "lib"), FONTCONFIG_FILE: join(folder, "fonts.conf") },
  };
}

/** A folder of that name is whole: another run may unpack at the same time, and this one may be interrupted. */
async function unpack(packed: string, cache: string, folder: string): Promise<void> {
  await mkdir(cache, { recursive: true });
  const unpacking = await mkdtemp(join(cache, "chromium-unpacking-"));
  const { TMPDIR } = process.env;
  try {
    // The package unpacks where temporary files lie.
    process.env["TMPDIR"] = unpacking;
    const { inflate } = await import("@sparticuz/chromium");
    await Promise.all(["chromium.br", "fonts.tar.br", "al2023.tar.br"].map((name) => inflate(join(packed, name))));
  } finally {
    if (TMPDIR === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = TMPDIR;
  }
  // The package's own names /tmp/fonts, and a Chromium that finds no font ends at the first text.
  const fonts = `<dir>${join(folder, "fonts")}</dir><cachedir>${join(folder, "fonts-cache")}</cachedir>`;
  await writeFile(join(unpacking, "fonts.conf"), `<?xml version="1.0"?>\n<fontconfig>${fonts}</fontconfig>\n`);
  try {
    await rename(unpacking, folder);
  } catch (error) {
    await rm(unpacking, { recursive: true });
    // Somebody else's is there.
    if (!["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
