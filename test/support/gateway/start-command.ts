import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

interface Manifest {
  readonly scripts: { readonly start: string };
}

const root = new URL("../../../", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as Manifest; // our own
const [, ...words] = manifest.scripts.start.split(" ");

/** What `npm start` gives Node ahead of the program. */
export const startFlags: readonly string[] = words.slice(0, -1);

/** The program that `npm start` runs. */
export const startProgram = fileURLToPath(new URL(words.at(-1) ?? "", root));
