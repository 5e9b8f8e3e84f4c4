import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";

import { readAgentsFile } from "./agents-file.ts";
import { keyFileProblem } from "./api-keys.ts";
import type { ConfigProblem, Environment } from "../config/load.ts";

/**
 * What is wrong with the files that variables name: told at the start, with the other mistakes, not when a file is first
 * needed. `serves`: also with those that only a gateway that answers clients needs.
 */
export async function fileProblems(env: Environment, serves: boolean): Promise<readonly ConfigProblem[]> {
  const given = (name: string): string | null => env[name]?.trim() || null;
  const problems: ConfigProblem[] = [];
  const tell = (variable: string, message: string | null): void => {
    if (message !== null) problems.push({ variable, message });
  };
  const tls = { ca: "REDIS_TLS_CA_FILE", cert: "REDIS_TLS_CERT_FILE", key: "REDIS_TLS_KEY_FILE" } as const;
  const read = async (variable: string): Promise<string | null> => {
    const file = given(variable);
    if (file === null) return null;
    try {
      return await readFile(file, "utf8");
    } catch (error) {
      tell(variable, unreadable(error));
      return null;
    }
  };
  const [ca, cert, key] = await Promise.all([read(tls.ca), read(tls.cert), read(tls.key)]);
  if (ca !== null && !isUsable({ ca })) tell(tls.ca, "holds no certificate in PEM form");
  if (cert !== null && !isUsable({ cert })) tell(tls.cert, "holds no certificate in PEM form");
  else if (key !== null && !isUsable({ key }))
    tell(tls.key, "holds no private key in PEM form, or one with a passphrase");
  else if (cert !== null && key !== null && !isUsable({ cert, key }))
    tell(tls.key, "is not the key of the certificate");
  if (!serves) return problems;

  const file = given("AGENTS_FILE");
  const { agents, problems: mistakes } = file === null ? { agents: {}, problems: [] } : await readAgentsFile(file, env);
  for (const mistake of mistakes) tell("AGENTS_FILE", mistake);
  if (given("OPENAI_API_KEY") === null && given("OPENAI_BASE_URL") === null) {
    for (const [name, agent] of Object.entries(agents)) {
      const model = "model" in agent ? agent.model : null;
      if (typeof model !== "string" || !model.startsWith("openai:")) continue;
      tell("OPENAI_API_KEY", `is needed by agents.${name} (or OPENAI_BASE_URL, for a server without keys)`);
    }
  }
  for (const variable of ["MODEL", "MODELS"]) {
    const names = (given(variable) ?? "").split(",").flatMap((name) => /^agent:(.*)$/.exec(name.trim())?.[1] ?? []);
    const missing = names.find((name) => !Object.hasOwn(agents, name));
    if (missing === undefined || mistakes.length > 0) continue;
    const why =
      file === null ? "and AGENTS_FILE, the file of the agents, is not set" : "which AGENTS_FILE does not have";
    tell(variable, `names the agent ${JSON.stringify(missing)}, ${why}`);
  }
  const keys = given("AUTH_KEYS_FILE");
  if (keys !== null && given("AUTH") === "keys") tell("AUTH_KEYS_FILE", await keyFileProblem(keys));
  const operations = given("PERSISTED_OPERATIONS") === "off" ? null : await read("PERSISTED_OPERATIONS_FILE");
  if (operations !== null && !isJson(operations)) tell("PERSISTED_OPERATIONS_FILE", "is no JSON");
  return problems;
}

function unreadable(error: unknown): string {
  return `cannot be read (${error instanceof Error && "code" in error ? String(error.code) : "it is no text"})`;
}

function isUsable(pem: { readonly ca?: string; readonly cert?: string; readonly key?: string }): boolean {
  // Node takes what is no PEM for a list of no authorities.
  if (pem.ca !== undefined && !pem.ca.includes("-----BEGIN CERTIFICATE-----")) return false;
  try {
    createSecureContext(pem);
    return true;
  } catch {
    return false;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
