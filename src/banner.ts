export interface StartScreen {
  readonly version: string;
  /** Of the HTTP server, without a path. */
  readonly url: string;
  readonly graphiql: boolean;
  /** `directory`: where the files of Parley's own redis-server are; null where REDIS_URL names another. */
  readonly redis: { readonly url: string; readonly directory: string | null } | { readonly described: string };
  readonly historyKeyPrefix: string;
  readonly model: string;
  readonly auth: "none" | "jwt" | "keys";
}

/** What someone sees who has just started Parley: where everything is, and two things to try. */
export function startScreen(screen: StartScreen): string {
  const { version, url, redis, model, auth } = screen;
  const header = auth === "none" ? "" : ` -H "authorization: Bearer $TOKEN"`;
  const endpoint = `${url}/graphql`;
  const own = "url" in redis && redis.directory !== null;
  const redisUrl = "described" in redis ? null : own ? redis.url : withoutPassword(redis.url);
  const live = `curl -N ${endpoint} -H 'accept: text/event-stream' -H 'content-type: application/json'${header} \\
  -d '${JSON.stringify({ query: `subscription { messageAdded(sessionId: "jim", after: "") { role text } }` })}'`;
  const rows = [
    ...(screen.graphiql ? [["GraphiQL", `${endpoint}   open it in a browser`]] : []),
    ["GraphQL", `${endpoint}   queries, mutations, SSE`],
    ["", `${endpoint.replace(/^http/, "ws")}   subscriptions (graphql-transport-ws)`],
    ["Redis", "described" in redis ? redis.described : (redisUrl ?? "")],
    ...(own ? [["", `Parley's own; it keeps the conversations in ${redis.directory}`]] : []),
    ...(auth === "none"
      ? []
      : [["Who may", auth === "jwt" ? "bearers of tokens (AUTH=jwt)" : "bearers of keys (AUTH=keys)"]]),
    ["Model", model === "offline" ? "offline   set OPENAI_API_KEY or OPENAI_BASE_URL for a real one" : model],
  ];
  return `
  Parley ${version} is ready.

${rows.map(([name = "", text = ""]) => `    ${name.padEnd(10)}${text}`).join("\n")}

  To try: say something, then ask "What did I just say my name was?"

${indent(curl(endpoint, header))}

${
  redisUrl === null
    ? `  To try: watch it, message by message\n\n${indent(live)}`
    : `  To try: the same conversation from LangChain (npm install @langchain/redis)\n\n${indent(langchain(redisUrl, `${screen.historyKeyPrefix}jim`))}`
}
`;
}

function curl(endpoint: string, header: string): string {
  const query = `mutation { sendMessage(input: { sessionId: "jim", text: "Hi! I am Jim." }) { reply { text } } }`;
  return `curl ${endpoint} -H 'content-type: application/json'${header} \\\n  -d '${JSON.stringify({ query })}'`;
}

function langchain(redisUrl: string, key: string): string {
  return `import { RedisChatMessageHistory } from "@langchain/redis";

const history = new RedisChatMessageHistory({
  sessionId: ${JSON.stringify(key)},
  config: { url: ${JSON.stringify(redisUrl)} },
});
for (const message of await history.getMessages()) console.log(message.type, message.text);
await history.addUserMessage("Written by LangChain, seen live by GraphQL.");
process.exit();`;
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, "    ");
}

/** The password of somebody's Redis is not shown on a screen; it is known where the URL came from. */
function withoutPassword(redisUrl: string): string {
  const url = new URL(redisUrl);
  if (url.password !== "") url.password = "***";
  return url.href;
}
