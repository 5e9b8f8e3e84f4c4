import { isIP } from "node:net";
import { availableParallelism } from "node:os";
import { z } from "zod";
import type { Form } from "./setting.ts";

// The forms that values of settings have. None of the messages repeats a value: URLs and keys hold secrets.

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

const isCount = (option: unknown) => typeof option === "number" && option >= 0;
const isText = (option: unknown) => typeof option === "string";
const areTexts = (option: unknown) => Array.isArray(option) && option.every(isText);
const count = { must: "must be a number, 0 or more", holds: isCount };
const yesOrNo = { must: "must be true or false", holds: (option: unknown) => typeof option === "boolean" };

/** A whole number. The bounds hold for variables; a program may give an option any number from 0 on, as tests do. */
export function whole(min: number, max: number): Form<number> {
  const message = `must be a whole number from ${min} to ${max}`;
  const text = z
    .string()
    .regex(/^\d{1,15}$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
  return { text, ...count };
}

/** null: no limit, which a variable says by 0. */
export function wholeOrNone(max: number): Form<number | null> {
  const { text, must, holds } = orNull(whole(0, max));
  return { text: text.transform((value) => (value === 0 ? null : value)), must, holds, none: "0" };
}

/** null is what is left out. */
export function orNull<Value>({ text, must, holds }: Form<Value>): Form<Value | null> {
  return { text, must: `${must}, or null`, holds: (option) => option === null || holds(option) };
}

export const onOff: Form<boolean> = {
  text: z
    .enum(["on", "off", "true", "false", "1", "0"], "must be on or off")
    .transform((value) => value === "on" || value === "true" || value === "1"),
  ...yesOrNo,
};

/** true where the variable has this one value. */
export function trueFor(value: string, text: z.ZodType<string, string>): Form<boolean> {
  return { text: text.transform((given) => given === value), ...yesOrNo };
}

export function oneOf<const Names extends readonly string[]>(...names: Names): Form<Names[number]> {
  const must = `must be one of ${names.join(", ")}`;
  return { text: z.enum(names, must), must, holds: (option) => names.some((name) => name === option) };
}

const mostWorkers = 128;
const workersForm = `must be a whole number from 1 to ${mostWorkers}, or auto`;
/** auto: as many as there are cores that this process may use. */
export const workers: Form<number> = {
  text: z
    .string()
    .regex(/^(auto|\d{1,4})$/, workersForm)
    .transform((given) => (given === "auto" ? Math.min(mostWorkers, availableParallelism()) : Number(given)))
    .refine((value) => value >= 1 && value <= mostWorkers, workersForm),
  ...count,
};

/** Any, or what the check lets pass. */
export function text(check: z.ZodType<string, string> = z.string()): Form<string> {
  return { text: check, must: "must be a text", holds: isText };
}

/** Separated by commas. */
export function list(isEntry: (entry: string) => boolean = () => true, message = ""): Form<readonly string[]> {
  const entries = separated.refine((given) => given.every(isEntry), message);
  return { text: entries, must: "must be a list of texts", holds: areTexts };
}

const separated = z.string().transform((value) =>
  value
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== ""),
);

const temperatureForm = "must be a number from 0 to 2";
export const temperature: Form<number> = {
  text: z
    .string()
    .regex(/^\d+(\.\d+)?$/, temperatureForm)
    .transform(Number)
    .refine((value) => value <= 2, temperatureForm),
  ...count,
};

const addressForm = "must be host:port, separated by commas";
/** host:port,… */
export const addresses: Form<readonly RedisAddress[]> = {
  text: separated
    .refine((entries) => entries.length > 0 && entries.every((entry) => parseAddress(entry) !== null), addressForm)
    .transform((entries) => entries.flatMap((entry) => parseAddress(entry) ?? [])),
  must: addressForm,
  holds: Array.isArray,
};

const natForm = "must be pairs such as 10.0.0.1:6379=localhost:7001, separated by commas";
/** host:port=host:port,… */
export const natMap: Form<Readonly<Record<string, RedisAddress>>> = {
  text: separated
    .refine(
      (pairs) => pairs.every((pair) => pair.split("=").length === 2 && pair.split("=").every(parseAddress)),
      natForm,
    )
    .transform((pairs) => {
      const entries = pairs.map((pair) => pair.split("="));
      return Object.fromEntries(entries.flatMap(([called = "", at = ""]) => [[called, parseAddress(at)]] as const));
    })
    .transform((map) => map as Readonly<Record<string, RedisAddress>>), // each was parsed by the check above
  must: natForm,
  holds: (option) => typeof option === "object",
};

const trustForm = "must be how many proxies stand in front, or their addresses and networks such as 10.0.0.0/8";
export const trustedProxies: Form<number | readonly string[]> = {
  text: z.union(
    [whole(0, 20).text, separated.refine((given) => given.length > 0 && given.every(isNetwork), trustForm)],
    { error: () => trustForm },
  ),
  must: trustForm,
  holds: (option) => isCount(option) || areTexts(option),
};

/** As LangChain knows them (a test compares): its list is not loaded for this, which takes a second. */
export const modelProviders = [
  ...["anthropic", "aws", "azure_openai", "bedrock", "cerebras", "cohere", "deepseek", "fireworks", "google"],
  ...["google-genai", "google-vertexai", "google-vertexai-web", "groq", "langsmith", "mistral", "mistralai"],
  ...["ollama", "openai", "perplexity", "together", "xai"],
] as const;

const modelName = new RegExp(`^(offline|(${modelProviders.join("|")}):\\S+)$`);
export const modelForm = `must be "provider:name", such as openai:gpt-4o-mini, or "offline"; the providers are ${modelProviders.join(", ")}`;
export const optionModelForm =
  'must be "provider:name", such as openai:gpt-4o-mini, "offline", or the name of one of customModels';

export const isModelName = (name: string): boolean => modelName.test(name);
/** An agent of AGENTS_FILE as well, or of `agents`: whether there is one of the name is looked at where these are known. */
const isModel = (name: string) => isModelName(name) || /^agent:\S+$/.test(name);
export const model: Form<string> = { ...text(z.string().refine(isModel, modelForm)), must: optionModelForm };
export const models = list(isModelName, `each ${modelForm}`);

const parleysOwn = (prefix: string) => prefix.startsWith("parley:");
/** What leaves session ids that make history keys (conversation/conversations/access.ts has what those must be). */
export const historyKeyPrefix: Form<string> = {
  text: z
    .string()
    .refine((prefix) => !parleysOwn(prefix), 'must not begin with "parley:", as Parley\'s own keys do')
    .refine(
      (prefix) => Buffer.byteLength(prefix) <= 400,
      "must have at most 400 bytes, so that there is room for session ids",
    )
    // eslint-disable-next-line no-control-regex -- these are what is looked for
    .refine((prefix) => !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/u.test(prefix), "must not hold control characters"),
  must: 'must be a text that does not begin with "parley:"',
  holds: (option) => typeof option === "string" && !parleysOwn(option),
};

export const httpUrl = text(z.string().refine(isHttpUrl, "must be a URL with http: or https:"));

export const redisUrl = text(
  z.string().refine((url) => {
    if (!isUrlOf(url, "redis:", "rediss:")) return false;
    const { hostname, pathname, hash } = new URL(url);
    return hostname !== "" && /^(\/\d*)?$/.test(pathname) && hash === "";
  }, "must be a URL redis://[user:password@]host[:port][/db], or rediss:// for TLS"),
);

function parseAddress(given: string): RedisAddress | null {
  const [, host, port] = /^(\[[0-9a-f:.]+\]|[^\s:/@[\]]+):(\d{1,5})$/i.exec(given) ?? [];
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) return null;
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

function isNetwork(given: string): boolean {
  const [address = "", bits, ...rest] = given.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 6 ? 128 : 32));
}

function isUrlOf(given: string, ...protocols: readonly string[]): boolean {
  const url = URL.parse(given);
  return url !== null && protocols.includes(url.protocol);
}

function isHttpUrl(given: string): boolean {
  return isUrlOf(given, "http:", "https:");
}

export function isOrigin(given: string): boolean {
  return isHttpUrl(given) && new URL(given).origin === given;
}

/** As a URL has it: in lower case, without a port. */
export function isHostName(given: string): boolean {
  return isOrigin(`http://${given}`) && !given.includes(":");
}

/** Reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
