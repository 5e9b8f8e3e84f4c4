export interface StartScreen {
  readonly version: string;
  /** Of the HTTP server, without a path. */
  readonly url: string;
  readonly console: boolean;
  readonly graphiql: boolean;
  /** `directory`: where the files of Parley's own redis-server are; null where REDIS_URL names another. */
  readonly redis: { readonly url: string; readonly directory: string | null } | { readonly described: string };
  /** Whether it answered once. */
  readonly redisAnswers: boolean;
  readonly historyKeyPrefix: string;
  readonly model: string;
  /** Processes that serve the port. */
  readonly workers: number;
  readonly auth: "none" | "jwt" | "keys";
  /** PERSISTED_OPERATIONS=only. */
  readonly listedOnly: boolean;
}

/** What Parley shows when it has started: its addresses, and examples that can be pasted into a shell. */
export function startScreen(screen: StartScreen): string {
  const { version, url, redis, redisAnswers, model, auth } = screen;
  const endpoint = `${url}/graphql`;
  const own = "url" in redis && redis.directory !== null;
  const rows = [
    ...(screen.console ? [["Console", `${url}/console   chat in a browser, and see each event`]] : []),
    ...(screen.graphiql ? [["GraphiQL", `${endpoint}   try operations in a browser`]] : []),
    ["GraphQL", `${endpoint}   queries, mutations, SSE`],
    ["", `${endpoint.replace(/^http/, "ws").padEnd(endpoint.length)}   subscriptions (graphql-transport-ws)`],
    ["Redis", "described" in redis ? redis.described : own ? redis.url : withoutPassword(redis.url)],
    ...(redisAnswers ? [] : [["", "DOES NOT ANSWER. Parley waits for it; until then operations are refused."]]),
    ...(own ? [["", `Parley's own; it keeps the conversations in ${redis.directory}`]] : []),
    ...(auth === "none"
      ? []
      : [["Access", auth === "jwt" ? "with a token (AUTH=jwt)" : "with an API key (AUTH=keys)"]]),
    ["Model", model === "offline" ? "offline   set OPENAI_API_KEY or OPENAI_BASE_URL for a real one" : model],
    ...(screen.workers === 1 ? [] : [["Workers", `${screen.workers} processes share the port`]]),
    ...(screen.listedOnly ? [["Answers", "the operations of PERSISTED_OPERATIONS_FILE, and no others"]] : []),
  ];
  return `
  Parley ${version} is ${redisAnswers ? "ready" : "started, but not ready"}.

${rows.map(([name = "", text = ""]) => `    ${name.padEnd(10)}${text}`).join("\n")}
${screen.listedOnly ? "" : examples(screen, endpoint)}`;
}

/** What is typed here is on no list of persisted operations: there none is shown. */
function examples({ redis, historyKeyPrefix, auth, model }: StartScreen, endpoint: string): string {
  const post = `curl ${endpoint} -H 'content-type: application/json'${auth === "none" ? "" : ` -H "authorization: Bearer $TOKEN"`}`;
  const redisUrl =
    "described" in redis
      ? null
      : redis.directory === null && hasPassword(redis.url)
        ? "process.env.REDIS_URL"
        : JSON.stringify(redis.url);
  const [, agent] = /^agent:(.*)$/.exec(model) ?? [];
  const [asks, text] =
    agent === undefined
      ? [`say something, then ask "What did I just say my name was?"`, "Hi! I am Jim."]
      : [`ask the agent ${agent}, and see which tools it has called`, "What can you do for me?"];
  const read = agent === undefined ? "reply { text }" : "reply { text } run { messages { toolCalls { name } text } }";
  const send = `sendMessage(input: { sessionId: "jim", text: "${text}" }) { ${read} }`;
  const live = `messageAdded(sessionId: "jim", after: "") { role text }`;
  const rest = (session: string | null): readonly Example[] =>
    redisUrl === null
      ? [{ what: "watch it, message by message", text: watch(post, live, session) }]
      : [
          {
            what: "the same conversation from LangChain (npm install @langchain/redis)",
            text: langchain(redisUrl, historyKeyPrefix, session),
          },
        ];
  const first: readonly Example[] =
    auth === "none"
      ? [{ what: asks, text: `${post} \\\n  -d '${JSON.stringify({ query: `mutation { ${send} }` })}'` }]
      : [
          {
            what: `with ${auth === "jwt" ? "a token" : "a key (parley keys add --subject jim)"} in TOKEN start a session, then ${asks}`,
            text: [
              "export TOKEN=…",
              `export SESSION=$(${post.replace("curl", "curl -s")} \\`,
              `  -d '{"query":"mutation { createSession(input: {}) { session { sessionId } } }"}' | sed 's/.*"sessionId":"\\([^"]*\\)".*/\\1/')`,
              `${post} \\`,
              `  -d '${inSession(`mutation ($id: String!) { ${send.replace('"jim"', "$id")} }`)}'`,
            ].join("\n"),
          },
        ];
  return [...first, ...rest(auth === "none" ? null : "process.env.SESSION")]
    .map(({ what, text }) => `\n  To try: ${what}\n\n${indent(text)}\n`)
    .join("");
}

interface Example {
  readonly what: string;
  readonly text: string;
}

/** `session`: it is named by the variable SESSION; null: it is jim. */
function watch(post: string, live: string, session: string | null): string {
  const body =
    session === null
      ? JSON.stringify({ query: `subscription { ${live} }` })
      : inSession(`subscription ($id: String!) { ${live.replace('"jim"', "$id")} }`);
  return `${post.replace("curl", "curl -N")} -H 'accept: text/event-stream' \\\n  -d '${body}'`;
}

/** A body for a shell's single quotes, which end for the variable SESSION. */
function inSession(query: string): string {
  return `${JSON.stringify({ query }).slice(0, -1)},"variables":{"id":"'"$SESSION"'"}}`;
}

function langchain(redisUrl: string, prefix: string, session: string | null): string {
  const sessionId = session === null ? JSON.stringify(`${prefix}jim`) : `${JSON.stringify(prefix)} + ${session}`;
  return `import { RedisChatMessageHistory } from "@langchain/redis";

const history = new RedisChatMessageHistory({
  sessionId: ${sessionId},
  config: { url: ${redisUrl} },
});
for (const message of await history.getMessages()) console.log(message.type, message.text);
await history.addUserMessage("Written by LangChain, seen live by GraphQL.");
process.exit();`;
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, "    ");
}

function hasPassword(redisUrl: string): boolean {
  return new URL(redisUrl).password !== "";
}

/** The password of somebody's Redis is not shown on a screen; it is known where the URL came from. */
function withoutPassword(redisUrl: string): string {
  const url = new URL(redisUrl);
  if (hasPassword(redisUrl)) url.password = "***";
  return url.href;
}
