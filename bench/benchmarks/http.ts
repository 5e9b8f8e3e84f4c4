import type { Contender, Stage } from "../benchmark.ts";
import type { HttpLoad } from "../clients/http-load.ts";
import type { BenchProcess } from "../processes.ts";

export interface HttpServer {
  readonly name: string;
  readonly note: string;
  readonly process: BenchProcess;
  readonly path: string;
  /** Asked in turn. */
  readonly bodies: readonly string[];
  /** Throws where the answer to a body is not what it must be. */
  readonly check: (answer: string, which: number) => void;
}

const connections = 32;
const windowMs = 500;
/** V8 compiles what runs often anew, in steps, and the threads that do that are counted, too: until they are done. */
const warmUpMs = 8000;

/** Each server's answers are checked whole once; from then on each must have status 200 and the length that it had then. */
export async function httpContenders(stage: Stage, servers: readonly HttpServer[]): Promise<readonly Contender[]> {
  const client = await stage.start<HttpLoad>("clients/http-load.ts");
  const contenders: Contender[] = [];
  for (const server of servers) contenders.push(await httpContender(client, server));
  return contenders;
}

async function httpContender(client: BenchProcess<HttpLoad>, server: HttpServer): Promise<Contender> {
  const { name, note, process, path, bodies, check } = server;
  const request = { url: process.url, path, bodies };
  const answers = await client.order("answers", request);
  for (const [i, { status, text }] of answers.entries()) {
    if (status !== 200) throw new Error(`${name} answered ${status}: ${text.slice(0, 500)}`);
    check(text, i);
  }
  const lengths = answers.map(({ text }) => Buffer.byteLength(text));
  const loadOnce = async (ms = windowMs) => {
    await client.order("connect", { ...request, count: connections });
    const before = await process.usage();
    const load = await client.order("load", { ...request, lengths, ms });
    const after = await process.usage();
    await client.order("disconnect", undefined);
    return {
      cpuUs: (after.cpuUs - before.cpuUs) / load.requests,
      perSecond: (load.requests * 1000) / load.ms,
      p50Ms: load.p50Ms,
      p99Ms: load.p99Ms,
    };
  };
  return { name, note, window: () => loadOnce(), warmUp: () => loadOnce(warmUpMs) };
}
