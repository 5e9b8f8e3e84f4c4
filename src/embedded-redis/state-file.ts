import { randomBytes, randomUUID } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Endpoint } from "./probe.ts";

/**
 * `redis.url` in the embedded server's folder: one line, redis://:<password>@127.0.0.1:<port>/0, for its owner's eyes
 * only. It stays after a stop, so that a restart has the same address where the port is still free.
 */
export type EmbeddedAddress = Endpoint & { readonly password: string };

const fileName = "redis.url";

export function newPassword(): string {
  return randomBytes(24).toString("hex");
}

export function addressUrl(address: EmbeddedAddress): string {
  return `redis://:${address.password}@127.0.0.1:${address.port}/0`;
}

/** null for anything else than what addressUrl gives. */
export function parseAddress(text: string): EmbeddedAddress | null {
  const match = /^redis:\/\/:([0-9a-f]{48})@127\.0\.0\.1:(\d{1,5})\/0$/.exec(text.trim());
  const [, password, port] = match ?? [];
  if (password === undefined || Number(port) < 1 || Number(port) > 65_535) return null;
  return { password, port: Number(port) };
}

/** null where there is none, or none that can be read. */
export async function readAddress(directory: string): Promise<EmbeddedAddress | null> {
  const text = await readFile(join(directory, fileName), "utf8").catch(() => "");
  return parseAddress(text);
}

export function writeAddress(directory: string, address: EmbeddedAddress): Promise<void> {
  return writePrivateFile(join(directory, fileName), `${addressUrl(address)}\n`);
}

/** Whole or not at all, and for the owner only: another gateway may read it at any time. */
export async function writePrivateFile(path: string, content: string): Promise<void> {
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, content, { mode: 0o600 });
  await rename(draft, path);
}
