import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import type { ExportProgress, Gateway, ImportResult } from "./gateway.ts";

/** The commands over the data: backup, restore, and the deletion that an owner may ask for. */
export type DataCommand =
  | { readonly kind: "export"; readonly owner: string | null; readonly sessionId: string | null }
  | { readonly kind: "import"; readonly owner: string | null; readonly replace: boolean }
  | { readonly kind: "delete-owner"; readonly owner: string };

export const dataCommandsHelp = `  parley export > FILE      write sessions as NDJSON: the stored messages byte for byte, with the session records
    --owner NAME            only this owner's
    --session ID            only this session
  parley import < FILE      put them back; what is there already stays as it is
    --owner NAME            whose they shall be, instead of whose they were
    --replace               replace sessions that are there already
  parley delete-owner NAME  delete all sessions of an owner for good
    --yes                   really`;

/** null: it is another command. */
export function readDataCommand(
  args: readonly string[],
): DataCommand | { readonly kind: "misused"; readonly message: string } | null {
  const [name, ...rest] = args;
  if (name !== "export" && name !== "import" && name !== "delete-owner") return null;
  if (rest.includes("--help") || rest.includes("-h")) return null;
  const misused = (message: string) => ({ kind: "misused" as const, message });
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  try {
    if (name === "export") {
      const { values } = parseArgs({ args: rest, options: { owner: text, session: text } });
      return { kind: name, owner: values.owner ?? null, sessionId: values.session ?? null };
    }
    if (name === "import") {
      const { values } = parseArgs({ args: rest, options: { owner: text, replace: flag } });
      return { kind: name, owner: values.owner ?? null, replace: values.replace ?? false };
    }
    const { values, positionals } = parseArgs({ args: rest, options: { yes: flag }, allowPositionals: true });
    const [owner, ...others] = positionals;
    if (owner === undefined || others.length > 0) return misused("parley delete-owner takes one owner's name.");
    if (values.yes !== true) {
      return misused(`All sessions of ${JSON.stringify(owner)} would be deleted for good. Say so with --yes.`);
    }
    return { kind: name, owner };
  } catch (error) {
    return misused(error instanceof Error ? error.message : String(error));
  }
}

export interface Streams {
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
}

/** Gives the exit code: 0 done, 1 something was left out. Rejects where it stopped on the way. */
export async function runDataCommand(command: DataCommand, gateway: Gateway, streams: Streams): Promise<number> {
  const { stdin, stdout, stderr } = streams;
  const progress = counter(stderr);
  const say = (line: string) => {
    progress.end();
    stderr.write(`${line}\n`);
  };
  switch (command.kind) {
    case "export": {
      let told: ExportProgress = { sessions: 0, rows: 0 };
      const archive = gateway.exportSessions({
        ...(command.owner === null ? {} : { owner: command.owner }),
        ...(command.sessionId === null ? {} : { sessionId: command.sessionId }),
        onProgress(now) {
          told = now;
          progress.show(`${now.sessions} sessions, ${now.rows} messages`);
        },
      });
      await pipeline(Readable.from(archive), stdout, { end: false });
      say(`${told.sessions} sessions exported, ${told.rows} messages.`);
      return 0;
    }
    case "import": {
      const result = await gateway.importSessions(stdin, {
        ...(command.owner === null ? {} : { owner: command.owner }),
        replace: command.replace,
        onProgress: (now) => progress.show(`${now.restored} sessions, ${now.rows} messages`),
      });
      say(describeImport(result));
      return result.refused > 0 ? 1 : 0;
    }
    case "delete-owner": {
      const deleted = await gateway.deleteOwner(command.owner, {
        onProgress: (now) => progress.show(`${now} sessions deleted`),
      });
      say(`${deleted} sessions deleted.`);
      return 0;
    }
  }
}

function describeImport({ restored, known, expired, refused, inTheWay }: ImportResult): string {
  const parts = [`${restored} sessions imported`];
  if (known > 0) parts.push(`${known} were imported before`);
  if (expired > 0) parts.push(`${expired} had expired`);
  if (refused === 0) return `${parts.join(", ")}.`;
  const names = inTheWay.slice(0, 10).map((id) => JSON.stringify(id));
  const more = refused > names.length ? ", …" : "";
  return `${parts.join(", ")}; ${refused} are there already and stay as they are: ${names.join(", ")}${more}. --replace replaces one's own.`;
}

/** One line that counts, where somebody watches; how much there is in all is not known before. */
function counter(stderr: Streams["stderr"]): { show(text: string): void; end(): void } {
  let shown = false;
  let last = 0;
  return {
    show(text) {
      const now = performance.now();
      if (stderr.isTTY !== true || now - last < 100) return;
      last = now;
      shown = true;
      stderr.write(`\r\x1b[K${text}`);
    },
    end() {
      if (shown) stderr.write("\r\x1b[K");
    },
  };
}
