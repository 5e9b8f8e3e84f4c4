import type { Cluster, Redis } from "ioredis";

import type { AuthOptions } from "./config/auth.ts";
import { optionModelForm } from "./config/forms.ts";
import { checksOf, group, optional, optionProblems, required } from "./config/option-checks.ts";
import { withDefaults, type Given } from "./config/setting.ts";
import { commandSettings, optionSettings, type CommandSettings, type OptionSettings } from "./config/table.ts";
import type { TracingOptions } from "./config/tracing.ts";
import { isObject } from "./conversation/message/json.ts";
import { agentProblems, type AgentOptions } from "./langchain/agents/agent-options.ts";
import type { CustomModel } from "./langchain/models/custom-model.ts";
import type { Logger } from "./operations/logger.ts";
import type { ClusterOptions, RedisOptions, RedisSource } from "./redis/client/connection.ts";
import type { AuthenticateRequest } from "./transport/auth/authenticate.ts";

/** A redis-server of Parley's own, whose files lie in the directory. `environment`: where PATH and HOME are looked up. */
export interface EmbeddedSource {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly onProgress?: (text: string) => void;
}

/** A URL, and what it cannot say (TLS files, for instance). */
export interface UrlSource {
  readonly url: string;
  readonly options: RedisOptions;
}

/** Some nodes of a cluster, and ioredis' options for it (redisOptions: of each node's connection). */
export interface ClusterSource {
  readonly cluster: readonly { readonly host: string; readonly port: number }[];
  readonly options?: ClusterOptions;
}

/**
 * Everything but `redis` may be left out. Those with a variable are in docs/configuration.md, with their defaults. Four
 * defaults differ here: `model` ("offline"), `metrics`, `graphiql` and `console` (true, in production false). null: none, or no limit.
 */
export interface GatewayOptions extends Given<typeof optionSettings> {
  /**
   * A redis:// or rediss:// URL, ioredis' options (Sentinel's too), an ioredis client (Redis or Cluster: it is duplicated,
   * and stays the caller's), a cluster's nodes, or a redis-server of Parley's own. A keyPrefix of ioredis' options goes
   * ahead of `historyKeyPrefix`.
   */
  readonly redis:
    string | UrlSource | RedisOptions | Redis | Cluster | ClusterSource | { readonly embedded: EmbeddedSource };
  /**
   * Gives the caller of each HTTP request and each WebSocket; null refuses it. Each subject then has sessions of its
   * own. Left out, and without `auth`: there is one owner of everything, and everyone who reaches the port is it.
   */
  readonly authenticate?: AuthenticateRequest;
  /** Tokens or API keys that Parley checks itself, instead of `authenticate`. */
  readonly auth?: AuthOptions;
  /** LangChain chat models of the program's own, or functions that make them, by the names that `model` and callers choose them by. */
  readonly customModels?: Readonly<Record<string, CustomModel>>;
  /** Agents, which callers choose as "agent:<name>": a model with instructions and tools. */
  readonly agents?: Readonly<Record<string, AgentOptions>>;
  readonly persistedOperations?: PersistedOptions;
  /**
   * A collector of the gateway's own. Left out: OpenTelemetry's TracerProvider, where the program has registered one
   * before. null: there are no traces.
   */
  readonly tracing?: TracingOptions | null;
  readonly logger?: Logger;
  /** Only its commands over the data are used (adopt, export, …): it looks after nobody's runs. Default false. */
  readonly idle?: boolean;
}

export interface PersistedOptions extends Given<(typeof optionSettings)["persistedOperations"]> {
  /** More of the list: documents by id. */
  readonly documents?: Readonly<Record<string, string>>;
}

/** What createGateway was given is wrong: every mistake, each with the name of its option. */
export class GatewayOptionsError extends TypeError {
  override readonly name = "GatewayOptionsError";
}

/** The options with all defaults. */
export type Settings = GatewayOptions &
  OptionSettings &
  CommandSettings & {
    readonly auth: AuthOptions;
    /** Not everyone who reaches the port is the one owner of everything. */
    readonly authenticates: boolean;
  };

/** @throws {GatewayOptionsError} */
export function settle(options: GatewayOptions): Settings {
  const problems = [
    ...optionProblems(options, checks),
    ...modelProblems(options),
    ...agentsProblems(options),
    ...keyProblems(options),
  ];
  if (problems.length > 0) {
    throw new GatewayOptionsError(
      ["createGateway's options have mistakes:", ...problems.map((one) => `  ${one}`)].join("\n"),
    );
  }
  const { auth = { kind: "none" }, production = false, model = "offline" } = options;
  const authenticates = options.authenticate !== undefined || auth.kind !== "none";
  const known = { authenticates, production, model };
  const settings = withDefaults(optionSettings, options, known);
  return {
    ...withDefaults(commandSettings, {}, known),
    ...settings,
    // Where only what is listed is taken, anything else has to be asked for.
    agUi: options.agUi ?? (settings.agUi && settings.persistedOperations.mode !== "only"),
    auth,
    authenticates,
  };
}

const isFunction = (value: unknown) => typeof value === "function";

const checks = {
  ...checksOf(optionSettings),
  persistedOperations: group({
    ...checksOf(optionSettings.persistedOperations),
    documents: optional("must be an object of texts", isObject),
  }),
  redis: required(
    "must be a redis:// or rediss:// URL, ioredis' options, an ioredis client, { url, options }, { cluster: [{ host, port }] } or { embedded }",
    (value) =>
      isObject(value) || (typeof value === "string" && value !== "" && !/^(?!rediss?:)[a-z]+:\/\//i.test(value)),
  ),
  authenticate: optional("must be a function", isFunction),
  auth: optional("must be an object whose kind is none, jwt or keys", (value) => {
    return isObject(value) && ["none", "jwt", "keys"].some((kind) => kind === value["kind"]);
  }),
  customModels: optional("must be an object of LangChain chat models, or of functions that make them", (value) => {
    return isObject(value) && Object.values(value).every((one) => isObject(one) || isFunction(one));
  }),
  // agentProblems() says what is wrong with it.
  agents: optional("must be an object of agents by name", isObject),
  tracing: optional("must be an object with the url of a collector, or null", (value) => {
    return value === null || (isObject(value) && typeof value["url"] === "string");
  }),
  logger: optional("must have the methods debug, info, warn and error", (value) => {
    return isObject(value) && ["debug", "info", "warn", "error"].every((name) => isFunction(value[name]));
  }),
  idle: optional("must be true or false", (value) => typeof value === "boolean"),
};

function agentsProblems(options: unknown): readonly string[] {
  const { agents, customModels } = isObject(options) ? options : {};
  return isObject(agents) ? agentProblems(agents, (name) => isModelOf(customModels, name), optionModelForm) : [];
}

/** A model of OpenAI's that would fail with each reply: what LangChain reads from the environment counts for nothing here. */
function keyProblems(options: unknown): readonly string[] {
  const { model, models, customModels, agents, openai, idle } = isObject(options) ? options : {};
  const { apiKey, baseUrl } = isObject(openai) ? openai : {};
  if (idle === true || [apiKey, baseUrl].some((one) => one !== undefined && one !== null)) return [];
  const named = [
    ["model", model],
    ...(Array.isArray(models) ? models : []).map((one: unknown, i) => [`models.${i}`, one] as const),
    ...Object.entries(isObject(agents) ? agents : {}).map(
      ([name, agent]) => [`agents.${name}.model`, isObject(agent) ? agent["model"] : null] as const,
    ),
  ] as const;
  return named.flatMap(([at, name]) => {
    const isOpenAI = typeof name === "string" && name.startsWith("openai:");
    if (!isOpenAI || (isObject(customModels) && Object.hasOwn(customModels, name))) return [];
    return [`${at} needs openai.apiKey (or openai.baseUrl, for a server without keys)`];
  });
}

/** What is no name of a model would fail with each reply. */
function modelProblems(options: unknown): readonly string[] {
  const { model, models, customModels, agents } = isObject(options) ? options : {};
  const isMissing = (name: unknown): name is string =>
    typeof name === "string" &&
    name.startsWith("agent:") &&
    !(isObject(agents) && Object.hasOwn(agents, name.slice("agent:".length)));
  const missing = (Array.isArray(models) ? models : []).find(isMissing);
  if (missing !== undefined) return [`models names an agent that is not among agents: ${missing}`];
  if (isMissing(model)) return [`model names an agent that is not among agents: ${model}`];
  return typeof model !== "string" || isModelOf(customModels, model) ? [] : [`model ${optionModelForm}`];
}

function isModelOf(customModels: unknown, name: string): boolean {
  if (name === "offline" || /^[^:]+:\S/.test(name)) return true;
  return isObject(customModels) && Object.hasOwn(customModels, name);
}

/** `embedded`: Parley's own redis-server, already started; null where it uses the caller's. */
export function redisSourceOf(redis: GatewayOptions["redis"], embedded: { readonly url: string } | null): RedisSource {
  if (embedded) return { kind: "url", url: embedded.url };
  if (typeof redis === "string") return { kind: "url", url: redis };
  if (isClient(redis)) return { kind: "client", client: redis };
  if ("url" in redis) return { kind: "url", url: redis.url, options: redis.options };
  if ("cluster" in redis) return { kind: "cluster", nodes: redis.cluster, options: redis.options ?? {} };
  if ("embedded" in redis) throw new TypeError("The embedded Redis did not start");
  return { kind: "options", options: redis };
}

function isClient(redis: object): redis is Redis | Cluster {
  return "duplicate" in redis && typeof redis.duplicate === "function";
}
