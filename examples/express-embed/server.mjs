import { fileURLToPath } from "node:url";
import express from "express";
import { createGateway } from "parley-gateway";

const { PORT = "3000", REDIS_URL } = process.env;
if (REDIS_URL === undefined) throw new Error("Set REDIS_URL to the URL of Redis that the gateway's npm start prints.");

const gateway = await createGateway({ redis: REDIS_URL, model: "offline" });

const app = express();
// One request in Express's form, answered by the gateway: HTTP and server-sent events.
app.all("/graphql", async (request, response) => {
  const leaves = new AbortController();
  response.on("close", () => leaves.abort());
  const answer = await gateway.fetch(
    new Request(new URL(request.originalUrl, `http://${request.headers.host}`), {
      method: request.method,
      headers: Object.entries(request.headers).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, String(value)]],
      ),
      ...(request.method === "GET" || request.method === "HEAD" ? {} : { body: request, duplex: "half" }),
      signal: leaves.signal,
    }),
  );
  response.status(answer.status).setHeaders(answer.headers);
  try {
    for await (const part of answer.body ?? []) response.write(part);
  } catch (error) {
    if (!leaves.signal.aborted) throw error;
  }
  response.end();
});
app.use("/parley-client", express.static(fileURLToPath(new URL(".", import.meta.resolve("parley-client")))));
app.use(express.static(fileURLToPath(new URL("public", import.meta.url))));

const server = app.listen(Number(PORT), () => console.log(`http://localhost:${PORT}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close();
    void gateway.close().then(() => process.exit());
  });
}
