import { z } from "zod";

// How the values of variables are written. None of the messages repeats a value: URLs and keys hold secrets.

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

export interface Definition<Value> {
  /** As one would write it; null: none. */
  readonly default: string | null;
  readonly description: string;
  readonly schema: z.ZodType<Value, string>;
}

export function variable<Value>(
  schema: z.ZodType<Value, string>,
  fallback: string | null,
  description: string,
): Definition<Value> {
  return { schema, default: fallback, description };
}

/** A whole number. */
export function integer(min: number, max: number): z.ZodType<number, string> {
  const message = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,15}$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

export const onOff = z
  .enum(["on", "off", "true", "false", "1", "0"], "must be on or off")
  .transform((value) => value === "on" || value === "true" || value === "1");

export const list = z.string().transform((value) =>
  value
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== ""),
);

const addressForm = "must be host:port, separated by commas";
/** host:port,… */
export const addresses = list
  .refine((entries) => entries.length > 0 && entries.every((entry) => parseAddress(entry) !== null), addressForm)
  .transform((entries) => entries.flatMap((entry) => parseAddress(entry) ?? []));

const natForm = "must be pairs such as 10.0.0.1:6379=localhost:7001, separated by commas";
/** host:port=host:port,… */
export const natMap = list
  .refine(
    (pairs) => pairs.every((pair) => pair.split("=").length === 2 && pair.split("=").every(parseAddress)),
    natForm,
  )
  .transform((pairs) => {
    const entries = pairs.map((pair) => pair.split("="));
    return Object.fromEntries(entries.flatMap(([called = "", at = ""]) => [[called, parseAddress(at)]] as const));
  })
  .transform((map) => map as Readonly<Record<string, RedisAddress>>); // each was parsed by the check above

/** As LangChain knows them (a test compares): its list is not loaded for this, which takes a second. */
export const modelProviders = [
  ...["anthropic", "aws", "azure_openai", "bedrock", "cerebras", "cohere", "deepseek", "fireworks", "google"],
  ...["google-genai", "google-vertexai", "google-vertexai-web", "groq", "langsmith", "mistral", "mistralai"],
  ...["ollama", "openai", "perplexity", "together", "xai"],
] as const;

export const modelName = new RegExp(`^(offline|(${modelProviders.join("|")}):\\S+)$`);
export const modelForm = `must be "provider:name", such as openai:gpt-4o-mini, or "offline"; the providers are ${modelProviders.join(", ")}`;

/** What leaves session ids that make history keys (conversation/session-id.ts has what those must be). */
export const historyKeyPrefix = z
  .string()
  .refine((prefix) => !prefix.startsWith("parley:"), 'must not begin with "parley:", as Parley\'s own keys do')
  .refine(
    (prefix) => Buffer.byteLength(prefix) <= 400,
    "must have at most 400 bytes, so that there is room for session ids",
  )
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  .refine((prefix) => !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/u.test(prefix), "must not hold control characters");

export function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, pathname, hash } = new URL(text);
  return (
    (protocol === "redis:" || protocol === "rediss:") && hostname !== "" && /^(\/\d*)?$/.test(pathname) && hash === ""
  );
}

function parseAddress(text: string): RedisAddress | null {
  const [, host, port] = /^(\[[0-9a-f:.]+\]|[^\s:/@[\]]+):(\d{1,5})$/i.exec(text) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) return null;
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

export function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

export function isOrigin(text: string): boolean {
  return isHttpUrl(text) && new URL(text).origin === text;
}

/** As a URL has it: in lower case, without a port. */
export function isHostName(text: string): boolean {
  return isOrigin(`http://${text}`) && !text.includes(":");
}

/** Reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
