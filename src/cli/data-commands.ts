import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import { emptyOption, misusedBy, type Adopt, type Misused } from "./command-line.ts";
import type { ExportProgress, Gateway, ImportResult } from "../gateway.ts";
import { createProgress, type Terminal } from "./progress.ts";

/** The commands over the data: adoption, backup, restore, and the deletion that an owner may ask for. */
export type DataCommand =
  | Adopt
  | { readonly kind: "export"; readonly owner: string | null; readonly sessionId: string | null }
  | { readonly kind: "import"; readonly owner: string | null; readonly replace: boolean }
  | { readonly kind: "give"; readonly from: string; readonly to: string; readonly match: string }
  | { readonly kind: "delete-owner"; readonly owner: string };

export const dataCommandsHelp = `  parley export > FILE      write sessions as NDJSON: the stored messages byte for byte, with the session records
    --owner NAME            only this owner's
    --session ID            only this session
  parley import < FILE      put them back; what is there already stays as it is
    --owner NAME            their new owner, instead of the one in the archive
    --replace               replace sessions that are there already
  parley give FROM TO       make sessions of one owner another's; anonymous has what was there without AUTH
    --match PATTERN         only sessions with ids like this, "*" for any text ["*"]
  parley delete-owner NAME  delete all sessions of an owner for good
    --yes                   needed: without it nothing is deleted`;

/** null: it is another command. */
export function readDataCommand(args: readonly string[]): DataCommand | Misused | null {
  const [name, ...rest] = args;
  if (name !== "export" && name !== "import" && name !== "give" && name !== "delete-owner") return null;
  if (rest.includes("--help") || rest.includes("-h")) return null;
  const misused = (message: string) => ({ kind: "misused" as const, message });
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  try {
    if (name === "export") {
      const { values } = parseArgs({ args: rest, options: { owner: text, session: text } });
      return emptyOption(values) ?? { kind: name, owner: values.owner ?? null, sessionId: values.session ?? null };
    }
    if (name === "import") {
      const { values } = parseArgs({ args: rest, options: { owner: text, replace: flag } });
      return emptyOption(values) ?? { kind: name, owner: values.owner ?? null, replace: values.replace ?? false };
    }
    if (name === "give") {
      const { values, positionals } = parseArgs({ args: rest, options: { match: text }, allowPositionals: true });
      const [from, to, ...others] = positionals;
      if (from === undefined || to === undefined || others.length > 0 || from === "" || to === "") {
        return misused("parley give takes two names: the present owner of the sessions, and the new one.");
      }
      return emptyOption(values) ?? { kind: name, from, to, match: values.match ?? "*" };
    }
    const { values, positionals } = parseArgs({ args: rest, options: { yes: flag }, allowPositionals: true });
    const [owner, ...others] = positionals;
    if (owner === undefined || owner === "" || others.length > 0)
      return misused("parley delete-owner takes one owner's name.");
    if (values.yes !== true) {
      return misused(`All sessions of ${JSON.stringify(owner)} would be deleted for good. Say so with --yes.`);
    }
    return { kind: name, owner };
  } catch (error) {
    return misusedBy(error);
  }
}

/** Whose sessions shall be that were not; null: the command names nobody. */
export function newOwnerOf(command: DataCommand): string | null {
  if (command.kind === "give") return command.to;
  return command.kind === "adopt" || command.kind === "import" ? command.owner : null;
}

interface Streams {
  readonly stdin: AsyncIterable<Uint8Array>;
  /** What comes on stdin in all, where it is a file; null: nobody knows. */
  readonly stdinBytes: number | null;
  readonly stdout: Writable;
  readonly stderr: Terminal;
}

/** Gives the exit code: 0 done, 1 something was left out. Rejects where it stopped on the way. */
export async function runDataCommand(command: DataCommand, gateway: Gateway, streams: Streams): Promise<number> {
  const { stdin, stdinBytes, stdout, stderr } = streams;
  const progress = createProgress(stderr);
  const say = (line: string) => {
    progress.end();
    stderr.write(`${line}\n`);
  };
  switch (command.kind) {
    case "adopt": {
      const { scanned, adopted, skipped } = await gateway.adopt({
        ...(command.owner === null ? {} : { owner: command.owner }),
        ...(command.match === null ? {} : { match: command.match }),
        onProgress(now) {
          const text = `${now.scanned} lists looked at, ${now.adopted} adopted`;
          progress.show({ text, count: now.scanned, share: now.share });
        },
      });
      progress.end();
      stdout.write(`${adopted} adopted, ${skipped} left as they are, of ${scanned} lists.\n`);
      return 0;
    }
    case "export": {
      let told: ExportProgress = { sessions: 0, rows: 0, share: null };
      const archive = gateway.exportSessions({
        ...(command.owner === null ? {} : { owner: command.owner }),
        ...(command.sessionId === null ? {} : { sessionId: command.sessionId }),
        onProgress(now) {
          told = now;
          const { sessions, rows, share } = now;
          progress.show({ text: `${sessions} sessions, ${rows} messages`, count: rows, share });
        },
      });
      await pipeline(Readable.from(archive), stdout, { end: false });
      say(`${told.sessions} sessions exported, ${told.rows} messages.`);
      return 0;
    }
    case "import": {
      const read = { bytes: 0 };
      const result = await gateway.importSessions(counted(stdin, read), {
        ...(command.owner === null ? {} : { owner: command.owner }),
        replace: command.replace,
        onProgress({ restored, rows }) {
          const share = stdinBytes === null ? null : read.bytes / stdinBytes;
          progress.show({ text: `${restored} sessions, ${rows} messages`, count: rows, share });
        },
      });
      say(describeImport(result));
      return result.refused > 0 ? 1 : 0;
    }
    case "give": {
      const { from, to, match } = command;
      const onProgress = (now: number, share: number | null) =>
        progress.show({ text: `${now} sessions given`, count: now, share });
      say(`${await gateway.give({ from, to, match, onProgress })} sessions of ${from} are ${to}'s now.`);
      return 0;
    }
    case "delete-owner": {
      const deleted = await gateway.deleteOwner(command.owner, {
        onProgress: (now, share) => progress.show({ text: `${now} sessions deleted`, count: now, share }),
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
  return `${parts.join(", ")}; ${refused} left out, because a session with that id exists already: ${names.join(", ")}${more}. --replace replaces sessions of the same owner.`;
}

async function* counted(chunks: AsyncIterable<Uint8Array>, read: { bytes: number }): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    read.bytes += chunk.byteLength;
    yield chunk;
  }
}
