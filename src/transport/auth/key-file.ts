import { createHash, randomBytes } from "node:crypto";
import { appendFile, readFile } from "node:fs/promises";
import { patternsProblem, signedInProblem } from "../../conversation/conversations/access.ts";
import { isObject, isTexts, parseJson } from "../../conversation/message/json.ts";

/** One line of the file: whose the key is, what it may, and the key's hash. The key itself is written nowhere. */
export interface KeyEntry {
  readonly subject: string;
  readonly scopes: readonly string[];
  /** null: ids that begin with "<subject>:". */
  readonly sessions: readonly string[] | null;
  /** null: all. */
  readonly models: readonly string[] | null;
  /** SHA-256 of the key's text, in hexadecimal. A key has 256 random bits: that leaves nothing for a slow hash to add. */
  readonly sha256: string;
}

interface KeyFile {
  readonly entries: readonly KeyEntry[];
  /** What is wrong, with the line's number; such lines let nobody in. */
  readonly problems: readonly string[];
}

/** JSON lines. Empty lines and those that begin with # count for nothing. */
export function parseKeyFile(text: string): KeyFile {
  const entries: KeyEntry[] = [];
  const problems: string[] = [];
  text.split("\n").forEach((line, at) => {
    if (line.trim() === "" || line.trimStart().startsWith("#")) return;
    const entry = entryOf(parseJson(line));
    if (typeof entry === "string") problems.push(`line ${at + 1}: ${entry}`);
    else entries.push(entry);
  });
  return { entries, problems };
}

/** The entry, or what is wrong with it. */
function entryOf(value: unknown): KeyEntry | string {
  if (!isObject(value)) return "is no JSON object";
  const { subject, scopes, sessions = null, models = null, sha256 } = value;
  if (typeof subject !== "string") return "has no subject";
  const problem = signedInProblem(subject);
  if (problem !== null) return `its subject ${problem}`;
  if (!isTexts(scopes)) return "its scopes are no list of names";
  if (sessions !== null && !isTexts(sessions)) return "its sessions are no list of patterns";
  if (models !== null && !isTexts(models)) return "its models are no list of patterns";
  for (const [name, patterns] of Object.entries({ sessions, models })) {
    const wrong = patternsProblem(patterns ?? []);
    if (wrong !== null) return `its ${name} ${wrong}`;
  }
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) return "its sha256 is no hash in hexadecimal";
  return { subject, scopes, sessions, models, sha256 };
}

export function hashOf(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

/** Rejects where the file cannot be read (ENOENT, EACCES). */
export async function readKeyFile(path: string): Promise<KeyFile> {
  return parseKeyFile(await readFile(path, "utf8"));
}

/** Makes a key and appends its entry; the file comes to be where there is none. The answer is the key: told once. */
export async function addKey(path: string, entry: Omit<KeyEntry, "sha256">): Promise<string> {
  const key = `parley_${randomBytes(32).toString("base64url")}`;
  const { subject, scopes, sessions, models } = entry;
  const line = JSON.stringify({
    subject,
    scopes,
    ...(sessions === null ? {} : { sessions }),
    ...(models === null ? {} : { models }),
    sha256: hashOf(key).toString("hex"),
    createdAt: new Date().toISOString(),
  });
  // An editor may have left the last line without its end.
  const before = await readFile(path, "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  });
  const start = before === "" || before.endsWith("\n") ? "" : "\n";
  await appendFile(path, `${start}${line}\n`, { mode: 0o600 });
  return key;
}
