import { readFile, readlink } from "node:fs/promises";
import { runCommand } from "./command.ts";

/**
 * What identifies a process beyond its id, which the system gives to another one sooner or later: start time and boot. Null
 * if there is no such process, or only its remains (a zombie, whose new parent may never collect it).
 */
export async function processIdentity(processId: number): Promise<string | null> {
  if (!signalReaches(processId)) return null;
  const statLine = await readFile(`/proc/${processId}/stat`, "utf8").catch(() => null);
  if (statLine === null) {
    // No /proc (macOS); or it has ended just now, then ps finds nothing either.
    const result = await runCommand("ps", ["-o", "stat=,lstart=", "-p", String(processId)], psOptions).catch(
      () => null,
    );
    const [, state, start] = /^(\S+)\s+(.*\S)/.exec(result?.stdout.trim() ?? "") ?? [];
    return state === undefined || start === undefined || state.startsWith("Z") ? null : start;
  }
  const parsed = parseStat(statLine);
  if (parsed === null || parsed.state === "Z" || parsed.state === "X") return null;
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  return `${boot.trim()}:${parsed.startTicks}`;
}

/** Whether the process is a redis-server or valkey-server that works in this folder (an absolute path without links). */
export async function isServerIn(processId: number, directory: string): Promise<boolean> {
  if ((await processIdentity(processId)) === null) return false;
  const name = await readFile(`/proc/${processId}/comm`, "utf8").catch(() => null);
  if (name !== null) {
    const workingDirectory = await readlink(`/proc/${processId}/cwd`).catch(() => null);
    return serverName.test(name) && workingDirectory === directory;
  }
  // Without /proc its name has to do.
  const result = await runCommand("ps", ["-o", "comm=", "-p", String(processId)], psOptions).catch(() => null);
  return serverName.test(result?.stdout ?? "");
}

const serverName = /(redis|valkey)-(server|check)/;
const psOptions = { environment: { PATH: "/usr/bin:/bin", LC_ALL: "C" }, timeoutMs: 5_000 };

/** State and start time (field 3 and 22) of /proc/<id>/stat; the name in field 2 may hold spaces and parentheses. */
export function parseStat(line: string): { readonly state: string; readonly startTicks: string } | null {
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const startTicks = fields[19];
  return state === undefined || startTicks === undefined ? null : { state, startTicks };
}

function signalReaches(processId: number): boolean {
  if (!Number.isSafeInteger(processId) || processId <= 0) return false;
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    // EPERM: another user's process, but one that lives.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
