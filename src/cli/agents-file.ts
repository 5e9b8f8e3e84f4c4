import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { isModelName, modelForm } from "../config/forms.ts";
import type { Environment } from "../config/load.ts";
import { isObject } from "../conversation/message/json.ts";
import { agentProblems, type AgentOptions } from "../langchain/agents/agent-options.ts";
import type { AgentPins } from "../langchain/agents/given-agents.ts";

interface AgentsFile {
  /** As createGateway takes them. */
  readonly agents: Readonly<Record<string, AgentOptions>>;
  /** Everything that is wrong with it, one line each; then there are no agents. */
  readonly problems: readonly string[];
}

/**
 * The agents of AGENTS_FILE: JSON of the form { "agents": { name: … } }, or an ES module whose default export is { name: … },
 * with LangChain's models and tools.
 */
export async function readAgentsFile(path: string, env: Environment): Promise<AgentsFile> {
  const unusable = (problem: string): AgentsFile => ({ agents: {}, problems: [problem] });
  const isJson = path.endsWith(".json");
  let given: unknown;
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    return unusable(
      `cannot be read (${error instanceof Error && "code" in error ? String(error.code) : "it is no text"})`,
    );
  }
  try {
    given = isJson ? jsonAgents(text) : await moduleAgents(path);
  } catch (error) {
    return unusable(explained(error, isJson ? "JSON" : "ES module"));
  }
  if (!isObject(given) || Object.keys(given).length === 0) return unusable("holds no agents");
  const problems: string[] = [];
  const filled = withSecrets(given, env, (problem) => problems.push(problem));
  problems.push(...agentProblems(filled, isModelName, modelForm));
  // Safe: each was checked.
  return { agents: problems.length === 0 ? (filled as Readonly<Record<string, AgentOptions>>) : {}, problems };
}

/**
 * What the tools of each agent's servers are now, for its `pins`. `onWarning`: about an agent.
 * @throws where a server cannot be reached
 */
export async function pinsOf(
  agents: AgentsFile["agents"],
  connectTimeoutMs: number,
  onWarning: (agent: string, message: string) => void,
): Promise<AgentPins> {
  const { GivenAgents } = await import("../langchain/agents/given-agents.ts");
  const given = new GivenAgents(agents, { connectTimeoutMs, onWarning });
  try {
    return await given.pins();
  } finally {
    await given.close();
  }
}

class FormError extends Error {}

function jsonAgents(text: string): unknown {
  const file: unknown = JSON.parse(text);
  if (!isObject(file) || !isObject(file["agents"])) throw new FormError('must be an object with "agents"');
  const [other] = Object.keys(file).filter((key) => key !== "agents");
  if (other !== undefined) throw new FormError(`${other} is not known: there is "agents" alone`);
  return file["agents"];
}

async function moduleAgents(path: string): Promise<unknown> {
  const loaded = (await import(pathToFileURL(resolve(path)).href)) as { readonly default?: unknown }; // any module
  if (!isObject(loaded.default)) throw new FormError("must export an object of agents as its default");
  return loaded.default;
}

function explained(error: unknown, kind: string): string {
  if (error instanceof FormError) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  return error instanceof SyntaxError ? `is no valid ${kind}: ${message}` : `cannot be loaded: ${message}`;
}

/**
 * The values of variables in place of each "${NAME}" in what is said of servers. What is not set is told: a secret that is
 * missing must not be sent as "".
 */
function withSecrets(agents: object, env: Environment, tell: (problem: string) => void): Record<string, unknown> {
  return entriesOf(agents, (agent, name) => {
    if (!isObject(agent) || !isObject(agent["mcpServers"])) return agent;
    const mcpServers = entriesOf(agent["mcpServers"], (server, which) => {
      const fill = (value: unknown): unknown => {
        if (Array.isArray(value)) return value.map(fill);
        if (isObject(value)) return entriesOf(value, fill);
        if (typeof value !== "string") return value;
        return value.replace(/\$\{([^}]*)\}/g, (_whole, variable: string) => {
          const set = env[variable] ?? "";
          if (set === "")
            tell(`agents.${name}.mcpServers.${which} needs ${variable}, which is not set in the environment`);
          return set;
        });
      };
      return fill(server);
    });
    return { ...agent, mcpServers };
  });
}

function entriesOf(value: object, map: (entry: unknown, name: string) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, map(entry, name)]));
}
