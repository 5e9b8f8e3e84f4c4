import { z } from "zod";

import type { GatewayOptions } from "../options.ts";

/** What createGateway was given is wrong: every mistake, each with the name of its option. */
export class GatewayOptionsError extends TypeError {
  override readonly name = "GatewayOptionsError";
}

const is = <Value>(message: string, holds: (value: unknown) => boolean) => z.custom<Value>(holds, message).optional();
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown) => typeof value === "number" && value >= 0;
const isText = (value: unknown) => typeof value === "string";
const isFunction = (value: unknown) => typeof value === "function";
const areTexts = (value: unknown) => Array.isArray(value) && value.every(isText);
const orNull = (holds: (value: unknown) => boolean) => (value: unknown) => value === null || holds(value);

const count = is("must be a number, 0 or more", isCount);
const countOrNull = is("must be a number, 0 or more, or null", orNull(isCount));
const yesOrNo = is("must be true or false", (value) => typeof value === "boolean");
const textOrNull = is("must be a text, or null", orNull(isText));
const textsOrNull = is("must be a list of texts, or null", orNull(areTexts));
const oneOf = (...names: readonly string[]) =>
  is(`must be one of ${names.join(", ")}`, (value) => names.some((name) => name === value));

const redisForm =
  "must be a redis:// or rediss:// URL, ioredis' options, an ioredis client, { url, options }, { cluster: [{ host, port }] } or { embedded }";
const isRedis = (value: unknown) =>
  isObject(value) || (typeof value === "string" && value !== "" && !/^(?!rediss?:)[a-z]+:\/\//i.test(value));

const modelForm = 'must be "provider:name", such as openai:gpt-4o-mini, "offline", or the name of one of customModels';

/** Each option by its form alone, as someone who writes JavaScript may get it wrong. */
const forms = {
  redis: z.custom(isRedis, redisForm),
  authenticate: is("must be a function", isFunction),
  auth: is("must be an object whose kind is none, jwt or keys", (value) => {
    return isObject(value) && ["none", "jwt", "keys"].some((kind) => kind === value["kind"]);
  }),
  historyKeyPrefix: is('must be a text that does not begin with "parley:"', (value) => {
    return typeof value === "string" && !value.startsWith("parley:");
  }),
  model: is(modelForm, isText),
  models: is("must be a list of texts", areTexts),
  customModels: is("must be an object of LangChain chat models, or of functions that make them", (value) => {
    return isObject(value) && Object.values(value).every((one) => isObject(one) || isFunction(one));
  }),
  openai: z
    .strictObject({
      apiKey: textOrNull,
      baseUrl: textOrNull,
      api: is("must be completions, responses or null", orNull(isText)),
    })
    .optional(),
  memory: z
    .strictObject({
      strategy: oneOf("BUFFER", "WINDOW", "TOKEN_BUFFER", "SUMMARY_BUFFER"),
      ...{ maxTurns: count, maxTokens: count, maxMessages: count },
    })
    .optional(),
  queryLimits: z
    .strictObject({
      ...{ maxTokens: count, maxDepth: count, maxAliases: count, maxDirectives: count },
      ...{ maxRootFields: count, maxDeferred: count, maxCost: count },
    })
    .optional(),
  persistedOperations: z
    .strictObject({
      mode: oneOf("auto", "only", "off"),
      file: textOrNull,
      documents: is("must be an object of texts", isObject),
    })
    .optional(),
  tracing: is(
    "must be an object with the url of a collector, or null",
    orNull((value) => isObject(value) && isText(value["url"])),
  ),
  logger: is("must have the methods debug, info, warn and error", (value) => {
    return isObject(value) && ["debug", "info", "warn", "error"].every((name) => isFunction(value[name]));
  }),
  trustProxy: is("must be how many proxies stand in front, or a list of their addresses and networks", (value) => {
    return value === null || isCount(value) || areTexts(value);
  }),
  ...{ systemPrompt: textOrNull, metricsToken: textOrNull, allowedOrigins: textsOrNull, allowedHosts: textsOrNull },
  ...{ autoTitle: yesOrNo, enableKeyspaceEvents: yesOrNo, listKeyspaceEvents: yesOrNo, production: yesOrNo },
  ...{ graphiql: yesOrNo, metrics: yesOrNo, introspection: yesOrNo, idle: yesOrNo },
  ...{ sessionTtlSeconds: countOrNull, modelTemperature: countOrNull, maxMessagesPerSession: countOrNull },
  ...{ hstsSeconds: countOrNull, maxSendsPerMinute: countOrNull, maxRunsPerSubject: countOrNull },
  ...{ maxTokensPerDay: countOrNull, maxSessionsPerOwner: countOrNull, maxSocketsPerSubject: countOrNull },
  ...{ maxSocketsPerAddress: countOrNull, maxRequestsPerMinute: countOrNull },
  ...{ modelMaxRetries: count, modelTimeoutMs: count, offlineWordDelayMs: count, maxMessageChars: count },
  ...{ maxQueuedRuns: count, runLeaseMs: count, replyWaitMs: count, feedCheckMs: count, redisCommandTimeoutMs: count },
  ...{ waitReplicas: count, waitTimeoutMs: count, maxBodyBytes: count, maxTitleChars: count, maxMetadataBytes: count },
  ...{ maxMessagesPerAdd: count, maxSubscriptionsPerSocket: count, maxMessagesPerSecond: count, maxConnections: count },
  ...{ maxConcurrentOperations: count, maxAnswerBytes: count, maxPendingAnswerBytes: count, maxEventLoopLagMs: count },
  ...{ headersTimeoutMs: count, requestTimeoutMs: count, maxHeaderBytes: count, keepAliveTimeoutMs: count },
  ...{ initTimeoutMs: count, keepAliveMs: count, slowReaderMs: count },
} satisfies Record<keyof GatewayOptions, z.ZodType>;

const checked = z.strictObject(forms, "must be an object; redis is the one option that is needed");

/** @throws {GatewayOptionsError} */
export function checkOptions(options: GatewayOptions): void {
  const { error } = checked.safeParse(options);
  const problems = (error?.issues ?? []).flatMap((issue) => {
    const at = issue.path.join(".");
    if (issue.code !== "unrecognized_keys") return [`${at === "" ? "the options" : at} ${issue.message}`];
    return issue.keys.map((key) => `${[...issue.path, key].join(".")} is no option`);
  });
  // What is no name of a model would fail with each reply.
  const { model, customModels } = isObject(options) ? options : {};
  const isNamed = typeof model !== "string" || model === "offline" || /^[^:]+:\S/.test(model);
  if (!isNamed && !(isObject(customModels) && Object.hasOwn(customModels, model))) problems.push(`model ${modelForm}`);
  if (problems.length === 0) return;
  throw new GatewayOptionsError(
    ["createGateway's options have mistakes:", ...problems.map((one) => `  ${one}`)].join("\n"),
  );
}
