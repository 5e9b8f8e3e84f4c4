import { isObject, isTexts, type JsonObject } from "../../conversation/message/json.ts";

// Its types are those of the package: they name none of a library's.

/** A server of the Model Context Protocol: a program that is started here (`command`), or an address (`url`). */
export interface McpServerOptions {
  readonly command?: string | undefined;
  readonly args?: readonly string[] | undefined;
  /** What the program sees of an environment beside PATH, HOME and the like. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly cwd?: string | undefined;
  /** Of streamable HTTP. */
  readonly url?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Whether its tools are called with the token of the user who asks or approves, as `authorization`. Default: false. */
  readonly passUserToken?: boolean | undefined;
  /** What the server answers as a failure is told to the model and the page ("tell", the default), or kept to the log. */
  readonly errors?: "tell" | "hide" | undefined;
}

/** What of an agent is about the tools of servers, which are called "<server>__<tool>". */
export interface McpOptions {
  readonly mcpServers?: Readonly<Record<string, McpServerOptions>> | undefined;
  /** Names of tools whose calls wait for somebody's approval, "*" for any text. */
  readonly approvals?: readonly string[] | undefined;
  /** What each of the servers' tools was when somebody looked at it; where there is any, tools without one are left out. */
  readonly pins?: Readonly<Record<string, string>> | undefined;
}

type Check = readonly [holds: (value: unknown) => boolean, must: string];

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
const text: Check = [isText, "must be a text"];
const texts: Check = [isTexts, "must be a list of texts"];
const textsByName: Check = [(value) => isObject(value) && isTexts(Object.values(value)), "must be an object of texts"];

const ofCommand = { args: texts, env: textsByName, cwd: text };
const flag: Check = [(value) => typeof value === "boolean", "must be true or false"];
const ofUrl = { headers: textsByName, passUserToken: flag };
const serverChecks: Readonly<Record<string, Check>> = {
  command: text,
  url: [isHttpUrl, "must be a URL with http: or https:, without user and password"],
  errors: [(value) => value === "tell" || value === "hide", 'must be "tell" or "hide"'],
  ...ofCommand,
  ...ofUrl,
};
const serverName = /^(?!.*__)[A-Za-z0-9](?:[A-Za-z0-9_-]{0,30}[A-Za-z0-9])?$/;
const pin = /^sha256:[0-9a-f]{64}$/;

/** What is wrong with these options of an agent, each with its place. */
export function mcpProblems(at: string, { mcpServers = {}, approvals = [], pins = {} }: JsonObject): readonly string[] {
  const servers = isObject(mcpServers)
    ? Object.entries(mcpServers).flatMap(([name, server]) => serverProblems(`${at}.mcpServers.${name}`, name, server))
    : [`${at}.mcpServers must be an object of servers by name`];
  const isPinned = isObject(pins) && Object.values(pins).every((one) => isText(one) && pin.test(one));
  return [
    ...servers,
    ...(Array.isArray(approvals) && approvals.every(isText)
      ? []
      : [`${at}.approvals must be a list of names of tools`]),
    ...(isPinned ? [] : [`${at}.pins must be pins by names of tools, as parley agents pin prints them`]),
  ];
}

function serverProblems(at: string, name: string, server: unknown): readonly string[] {
  if (!serverName.test(name)) return [`${at}: a server's name has letters, digits, "_" and "-", no "__", at most 32`];
  if (!isObject(server)) return [`${at} must be an object with command or url`];
  const given = Object.keys(server).filter((key) => server[key] !== undefined);
  const has = (key: string) => given.includes(key);
  const misplaced = has("url")
    ? Object.keys(ofCommand).filter(has)
    : has("command")
      ? Object.keys(ofUrl).filter(has)
      : [];
  return [
    ...(has("command") === has("url") ? [`${at} needs either command or url`] : []),
    ...misplaced.map((key) => `${at}.${key} does not belong to a server with ${has("url") ? "url" : "command"}`),
    ...given.flatMap((key) => {
      const check = Object.hasOwn(serverChecks, key) ? serverChecks[key] : undefined;
      if (check === undefined) return [`${at}.${key} is not known`];
      const [holds, must] = check;
      return holds(server[key]) ? [] : [`${at}.${key} ${must}`];
    }),
  ];
}

function isHttpUrl(value: unknown): boolean {
  const url = typeof value === "string" ? URL.parse(value) : null;
  return url !== null && ["http:", "https:"].includes(url.protocol) && url.username + url.password === "";
}
