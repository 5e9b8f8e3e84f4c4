import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { freePort, run, start, whenReady } from "./processes.ts";

/** A gateway as `npm start` gives it: of the tarball, with a Redis of its own and the offline model. */
export interface PackedGateway {
  readonly url: string;
  readonly redisUrl: string;
  forget(sessionId: string): Promise<void>;
  /** The newest run that has begun in a session. */
  readonly newestRun: (sessionId: string) => Promise<Run | null>;
  stop(): Promise<void>;
}

export interface Run {
  readonly status: string;
  readonly text: string;
}

/** `folder`: where it is installed. */
export async function startPackedGateway(folder: string, tarball: string): Promise<PackedGateway> {
  await mkdir(folder);
  await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await run("npm", ["install", "--no-audit", "--no-fund", tarball], folder);
  const port = await freePort();
  const started = start(process.execPath, ["node_modules/parley-gateway/bin/parley.js"], folder, {
    PORT: String(port),
    // Seconds for a reply: there is time to see that it is not whole yet, and to load the page again meanwhile.
    OFFLINE_WORD_DELAY_MS: "150",
  });
  try {
    const redisUrl = await whenReady(started, "The gateway", async () =>
      Promise.resolve(/redis:\/\/\S+/.exec(started.output())?.[0] ?? null),
    );
    const url = `http://localhost:${port}`;
    const ask = async (query: string, sessionId: string) => {
      const answer = await fetch(`${url}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ query, variables: { sessionId } }),
      });
      return await answer.text();
    };
    return {
      url,
      redisUrl,
      async forget(sessionId) {
        const query =
          "mutation ($sessionId: String!) { deleteSession(input: { sessionId: $sessionId }) { deletedId } }";
        const text = await ask(query, sessionId);
        if (!text.includes('"data":{') && !text.includes('"NOT_FOUND"')) throw new Error(text);
      },
      async newestRun(sessionId) {
        const text = await ask(
          "query ($sessionId: String!) { session(sessionId: $sessionId) { lastRun { status text } } }",
          sessionId,
        );
        // What it asks for, or errors.
        const { data } = JSON.parse(text) as { data?: { session: { lastRun: Run | null } | null } };
        if (data === undefined) throw new Error(text);
        return data.session?.lastRun ?? null;
      },
      stop: () => started.stop(),
    };
  } catch (error) {
    await started.stop();
    throw error;
  }
}
