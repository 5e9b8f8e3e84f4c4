import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import type { RunnableInterface } from "@langchain/core/runnables";
import type { StructuredToolInterface } from "@langchain/core/tools";

import type { ServerTool } from "../mcp/chosen-tools.ts";
import type { McpEndpoint } from "../mcp/connection.ts";
import type { McpServerOptions } from "../mcp/server-options.ts";
import { McpServer } from "../mcp/server.ts";
import type { AgentOptions, FlowOptions, ModelAgentOptions, ResponseSchema, Tool } from "./agent-options.ts";
import { defaultAgentLimits, type AgentLimits } from "./limits.ts";
import type { AgentSpec, AgentTool, FlowSpec, ToolAgentSpec } from "./spec.ts";

interface AgentSettings {
  /** How long a run waits for a server of tools. */
  readonly connectTimeoutMs: number;
  /** For the operator, about an agent. */
  readonly onWarning: (agent: string, message: string, cause?: unknown) => void;
}

/** By the names of agents: pins by the names of tools. */
export type AgentPins = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** The agents that a program or a file gave, with what they keep open: the connections to their servers. */
export class GivenAgents {
  readonly specs: readonly AgentSpec[];
  readonly #agents: readonly GivenAgent[];

  constructor(given: Readonly<Record<string, AgentOptions>>, settings: AgentSettings) {
    this.specs = Object.entries(given).map(([name, options]) =>
      "model" in options ? new GivenAgent(name, options, settings) : flowOf(name, options),
    );
    this.#agents = this.specs.filter((spec) => spec instanceof GivenAgent);
  }

  /** Connects to their servers in the background, and tells the operator what does not fit. */
  start(): void {
    for (const agent of this.#agents) void agent.tools().catch(() => undefined); // told to the operator
  }

  /** Of all tools that their servers have now. */
  async pins(): Promise<AgentPins> {
    return Object.fromEntries(
      await Promise.all(this.#agents.map(async (agent) => [agent.name, await agent.pins()] as const)),
    );
  }

  /** Agents that cannot answer now. */
  warnings(): readonly string[] {
    return this.#agents.flatMap(({ name, problem }) => (problem === null ? [] : [`The agent ${name}: ${problem}`]));
  }

  async close(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.close()));
  }
}

function flowOf(name: string, options: FlowOptions): FlowSpec {
  const { description = null, instructions = null, limits = {} } = options;
  const runs = "graph" in options ? options.graph : options.runnable;
  return {
    ...{ kind: "graph" in options ? "graph" : "runnable", name, description, instructions },
    limits: { ...defaultAgentLimits, ...withoutUndefined(limits) },
    // Safe: each was looked at (flowProblems), and the program has it from its own copy of LangChain.
    runs: runs as unknown as RunnableInterface,
  };
}

class GivenAgent implements ToolAgentSpec {
  readonly kind = "agent";
  readonly name: string;
  readonly description: string | null;
  readonly model: string | BaseChatModel;
  readonly instructions: string | null;
  readonly limits: AgentLimits;
  readonly takesPageTools: boolean;
  readonly responseFormat: ResponseSchema | null;
  readonly #options: ModelAgentOptions;
  readonly #servers: readonly Omit<ServerTool, "tool">[];
  readonly #onWarning: (message: string, cause?: unknown) => void;
  #told = "";
  #problem: string | null = null;

  constructor(name: string, options: ModelAgentOptions, settings: AgentSettings) {
    const { model, description = null, instructions = null, mcpServers = {}, limits = {} } = options;
    this.name = name;
    this.description = description;
    this.instructions = instructions;
    // Safe: an object is a LangChain chat model, which the program has from its own copy of LangChain.
    this.model = typeof model === "string" ? model : (model as unknown as BaseChatModel);
    this.limits = { ...defaultAgentLimits, ...withoutUndefined(limits) };
    this.takesPageTools = options.clientTools ?? false;
    this.responseFormat = options.responseFormat ?? null;
    this.#options = options;
    this.#onWarning = (message, cause) => settings.onWarning(name, message, cause);
    this.#servers = Object.entries(mcpServers).map(([serverName, config]) => {
      const server = new McpServer({
        name: serverName,
        endpoint: endpointOf(config),
        connectTimeoutMs: settings.connectTimeoutMs,
        onFailure: (error) => this.#onWarning(`The MCP server ${serverName} cannot be reached.`, error),
        onLine: (line) => this.#onWarning(`The MCP server ${serverName} says: ${line}`),
      });
      return { server, hidesErrors: config.errors === "hide", actsAsUser: config.passUserToken === true };
    });
  }

  get problem(): string | null {
    return this.#problem;
  }

  readonly tools = async (signal?: AbortSignal, userToken: string | null = null): Promise<readonly AgentTool[]> => {
    try {
      const tools = await this.#chosen(signal, userToken);
      this.#problem = null;
      return tools;
    } catch (error) {
      signal?.throwIfAborted();
      const problem = error instanceof Error ? error.message : String(error);
      if (problem !== this.#problem) this.#onWarning(`It cannot answer: ${problem}`);
      this.#problem = problem;
      throw error;
    }
  };

  async close(): Promise<void> {
    await Promise.all(this.#servers.map(({ server }) => server.close()));
  }

  async pins(): Promise<Readonly<Record<string, string>>> {
    const [{ nameOf, pinOf }, listed] = await Promise.all([import("../mcp/chosen-tools.ts"), this.#listed()]);
    return Object.fromEntries(listed.map((one) => [nameOf(one), pinOf(one.tool)]));
  }

  /** All tools of its servers. */
  async #listed(signal?: AbortSignal): Promise<readonly ServerTool[]> {
    const listed = this.#servers.map(async (one) => (await one.server.tools(signal)).map((tool) => ({ ...one, tool })));
    return (await Promise.all(listed)).flat();
  }

  async #chosen(signal: AbortSignal | undefined, userToken: string | null): Promise<readonly AgentTool[]> {
    const { tools, approvals = [], pins = {} } = this.#options;
    // Safe: each has a tool's name and invoke().
    const own = (tools ?? []).filter((one): one is Tool => typeof one !== "string");
    const patterns = tools?.filter((one) => typeof one === "string") ?? null;
    const [{ chosenTools }, listed] = await Promise.all([import("../mcp/chosen-tools.ts"), this.#listed(signal)]);
    const leftOut: string[] = [];
    const chosen = chosenTools(
      listed,
      own as unknown as readonly StructuredToolInterface[],
      { tools: patterns, approvals, pins },
      (name, why) => {
        leftOut.push(`The tool ${name} is left out. ${why}`);
      },
      userToken,
    );
    if (leftOut.join() !== this.#told) for (const message of leftOut) this.#onWarning(message);
    this.#told = leftOut.join();
    return chosen;
  }
}

function endpointOf({ command, args = [], env = {}, cwd, url = "", headers = {} }: McpServerOptions): McpEndpoint {
  return command === undefined
    ? { kind: "http", url, headers }
    : { kind: "stdio", command, args, env, cwd: cwd === undefined ? null : cwd };
}

function withoutUndefined(limits: NonNullable<ModelAgentOptions["limits"]>): Partial<AgentLimits> {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
