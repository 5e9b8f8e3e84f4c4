import type { BaseChatModel } from "@langchain/core/language_models/chat_models";

import type {
  ModelChoice,
  Replies,
  ReplyOutcome,
  ReplyRequest,
  SummaryRequest,
  TitleRequest,
  ToolChoice,
} from "../conversation/ports/model.ts";
import type { RunError, RunErrorCode } from "../conversation/run.ts";
import type { MemorySettings } from "../conversation/session.ts";
import { silentTelemetry, type Telemetry, type ToolOutcome } from "../conversation/ports/telemetry.ts";
import { ToolChoiceError, type AgentSpec, type AgentTool } from "./agents/spec.ts";
import type { Adapter } from "./driver.ts";
import { failureOf, runError } from "./models/failure.ts";
import type { CustomModel } from "./models/custom-model.ts";
import { createModels, type LoadedModel, type OpenAIOptions } from "./models/models.ts";
import { providerFactsOf, type ProviderFacts } from "./models/symptoms.ts";
import { watched } from "./models/watched.ts";

// Importing this file costs next to nothing: LangChain (about a second) is imported when it is first needed, or by warm().

export interface RepliesOptions {
  /** "openai:gpt-4o-mini", "offline", "anthropic:…", or the name of a custom model. */
  readonly defaultModel: string;
  /** What a caller may choose besides the default and the custom ones. */
  readonly models: readonly string[];
  readonly openai: OpenAIOptions;
  /** The longest time without a sign of life: before a model's first piece, and between two. Of a title or summary: for the whole. */
  readonly timeoutMs: number;
  /** For sessions whose memory settings leave them open. */
  readonly memoryDefaults: { readonly maxTurns: number; readonly maxTokens: number };
  /** Models of the program that uses Parley as a library, by the name that a caller chooses them by. */
  readonly custom?: Readonly<Record<string, CustomModel>>;
  /** What a caller chooses as "agent:<name>". */
  readonly agents?: readonly AgentSpec[];
  /** For the operator: a tool of an agent has failed, with what it threw. */
  readonly onToolFailure?: (failure: ToolFailure) => void;
  /** Between two words of the offline model. */
  readonly offlineWordDelayMs: number;
  readonly telemetry?: Telemetry;
  /** For the operator: a call of a model has failed. */
  readonly onFailure?: (failure: ModelCallFailure) => void;
}

/** Nothing of what was said, by whomever. */
export interface ModelCallFailure extends ProviderFacts {
  readonly purpose: "reply" | "title" | "summary";
  /** null: it was for no run. */
  readonly runId: string | null;
  readonly model: string;
  readonly code: RunErrorCode;
}

export interface ToolFailure {
  readonly runId: string;
  readonly agent: string;
  readonly tool: string;
  readonly err: unknown;
}

export interface LangChainReplies extends Replies {
  /**
   * Imports what the first turn needs, piece by piece, so that a gateway answers in between. Never rejects: gives what stands
   * in the way of the default model, null if nothing.
   */
  warm(): Promise<RunError | null>;
}

/** Asking for a module that is loaded already still goes through Node's loader, which costs as much as a small turn. */
function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | undefined;
  return () => (loaded ??= load());
}

const turnModules = once(async () => {
  await loadPieces();
  const [{ runTurn }, { conversationChain }, { inputOfRow }, { selectRows }] = await Promise.all([
    import("./driver.ts"),
    import("./chain.ts"),
    import("./history/rows.ts"),
    import("./models/select.ts"),
  ]);
  return { runTurn, conversationChain, inputOfRow, selectRows };
});

const agentModules = once(async () => {
  const [{ toolAgent }, { pageTool }] = await Promise.all([
    import("./agents/agent.ts"),
    import("./agents/page-tool.ts"),
    turnModules(),
  ]);
  return { toolAgent, pageTool };
});

const flowModules = once(async () => {
  const [{ flowAgent }] = await Promise.all([import("./agents/flow.ts"), turnModules()]);
  return { flowAgent };
});

/** What a turn imports, in the order in which it depends on each other: alone each keeps Node busy for 20 to 250 ms. */
const pieces = [
  () => import("@langchain/core/messages"),
  () => import("@langchain/core/prompts"),
  () => import("@langchain/core/language_models/chat_models"),
  () => import("@langchain/openai"),
  () => import("@langchain/classic/memory"),
];

/** Other requests are answered in between, and leases renewed: of the turn that could not wait for it, and of others. */
const loadPieces = once(async () => {
  for (const load of pieces) {
    await load();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
});

export function createReplies(options: RepliesOptions): LangChainReplies {
  const { defaultModel, timeoutMs, memoryDefaults, custom = {}, telemetry = silentTelemetry } = options;
  const { onFailure = () => undefined } = options;
  const { agents: specs = [], onToolFailure = () => undefined } = options;
  const agents = new Map(specs.map((spec) => [agentModel(spec.name), spec]));
  const names = [...new Set([defaultModel, ...options.models, ...Object.keys(custom), ...agents.keys()])];
  const load = createModels({
    openai: options.openai,
    custom,
    offlineWordDelayMs: options.offlineWordDelayMs,
    onStaleConnection: () => telemetry.modelReconnected(),
  });

  const loadOffered = async (name: string): Promise<LoadedModel | RunError> => {
    if (!names.includes(name)) {
      return runError("MODEL_UNAVAILABLE", { message: "This gateway does not offer this model.", retryable: false });
    }
    try {
      await loadPieces();
      const agent = agents.get(name);
      // It asks models of its own, which nobody else knows: titles and summaries are made without one.
      if (agent !== undefined && agent.kind !== "agent") return { ...(await load("offline")), modelName: name };
      const model = agent?.model ?? name;
      return typeof model === "string" ? await load(model) : given(model);
    } catch (error) {
      return failureOf(error, false);
    }
  };

  const runReply = async (
    request: ReplyRequest,
    model: LoadedModel,
    onThrown: (error: unknown) => void,
  ): Promise<ReplyOutcome> => {
    const { runTurn, conversationChain, inputOfRow } = await turnModules();
    const input = inputOfRow(request.input);
    if (input === null) {
      const message = "There is nothing in this message that the model could answer.";
      return { kind: "failed", error: runError("OTHER", { message, retryable: false }) };
    }
    const history = await historyOf(request, memoryDefaults);
    const { signal, emit, systemPrompt } = request;
    const agent = agents.get(request.model);
    // Its session's model has been another since it was asked for, or this gateway's agents are others.
    if (request.pageTools.length > 0 && !takesPageTools(agent)) {
      const error = refusal("The page has given tools, and what answers takes none of a page's.");
      return { kind: "failed", error };
    }
    const answers =
      agent === undefined ? conversationChain(model.chat) : await agentOf(agent, request, model, onThrown);
    if ("code" in answers) return { kind: "failed", error: answers };
    // Of an agent they are its own, unless the session has others.
    const instructions = request.instructions ?? agent?.instructions ?? systemPrompt;
    const asked = agent?.kind === "agent" && typeof agent.model === "string" ? agent.model : request.model;
    const beginCall = () => telemetry.begin({ kind: "model", model: asked, purpose: "reply" });
    return runTurn({
      answers,
      model,
      instructions,
      history,
      input,
      signal,
      emit,
      idleMs: timeoutMs,
      onFailure: onThrown,
      beginCall,
    });
  };

  const agentOf = async (
    spec: AgentSpec,
    request: ReplyRequest,
    model: LoadedModel,
    onThrown: (error: unknown) => void,
  ): Promise<Adapter | RunError> => {
    const { runId, steps, signal, resumed } = request;
    const { limits } = spec;
    const beginTool = (tool: string) => {
      const span = telemetry.begin({ kind: "tool", agent: spec.name, tool });
      const startedAt = performance.now();
      const end = (outcome: ToolOutcome) => {
        span.end(outcome);
        telemetry.toolEnded(spec.name, tool, outcome, (performance.now() - startedAt) / 1000);
      };
      return { inside: span.inside.bind(span), end };
    };
    const onTool = (tool: string, err: unknown) => onToolFailure({ runId, agent: spec.name, tool, err });
    if (spec.kind !== "agent") {
      // It has waited as an agent with tools, which this gateway does not have.
      if (resumed !== null) return runError("MODEL_UNAVAILABLE", { retryable: false });
      const { flowAgent } = await flowModules();
      const { kind, runs } = spec;
      return flowAgent({
        kind,
        runs,
        limits,
        steps,
        modelName: request.model,
        beginTool,
        onToolFailure: onTool,
        now: Date.now,
      });
    }
    const { toolAgent, pageTool } = await agentModules();
    let tools: readonly AgentTool[];
    try {
      tools = await spec.tools(signal, request.userToken);
    } catch (error) {
      onThrown(error);
      return error instanceof ToolChoiceError
        ? runError("MODEL_UNAVAILABLE", {
            message: "The agent is configured with a tool that there is not. The gateway's log says which.",
            retryable: false,
          })
        : runError("MODEL_UNAVAILABLE", {
            message: "The agent's tools cannot be reached right now. Try again in a moment.",
          });
    }
    const own = new Set(tools.map(({ tool }) => tool.name));
    const twice = request.pageTools.find(({ name }) => own.has(name));
    if (twice !== undefined)
      return refusal(`The page has given a tool "${twice.name}", and the agent has one of this name.`);
    const all = [...tools, ...request.pageTools.map(pageTool)];
    return toolAgent({
      ...{ model, limits, steps, resumed, tools: all, responseFormat: spec.responseFormat },
      beginTool,
      onToolFailure: onTool,
      now: Date.now,
    });
  };

  const replyTo = async (request: ReplyRequest, onThrown: (error: unknown) => void): Promise<ReplyOutcome> => {
    // Under watch too, because a custom model's factory may take its time.
    const ready = await watched(request.signal, timeoutMs, () => loadOffered(request.model));
    if (ready.kind === "cancelled") return { kind: "cancelled" };
    if (ready.kind === "timedOut") return { kind: "failed", error: runError("MODEL_TIMEOUT") };
    if (ready.kind === "threw") return { kind: "failed", error: failureOf(ready.error, false) };
    return "code" in ready.value ? { kind: "failed", error: ready.value } : runReply(request, ready.value, onThrown);
  };

  const tell = (call: Omit<ModelCallFailure, keyof ProviderFacts>, thrown: unknown): void =>
    onFailure({ ...call, ...providerFactsOf(thrown) });

  return {
    models: names.map((name) => choiceOf(name, agents.get(name), name === defaultModel)),

    async reply(request) {
      let thrown: unknown;
      const outcome = await replyTo(request, (error) => (thrown = error));
      if (outcome.kind === "failed") {
        const { runId, model } = request;
        tell({ purpose: "reply", runId, model, code: outcome.error.code }, thrown);
      }
      return outcome;
    },

    async takes(schema, args) {
      const { Validator } = await import("@langchain/core/utils/json_schema");
      // Safe: as toJsonSchema() has made it.
      return new Validator(schema as ConstructorParameters<typeof Validator>[0]).validate(args).valid;
    },

    async clipped(content, mostBytes) {
      const { within } = await import("./agents/answer.ts");
      // Safe: what LangChain stores as a message's content.
      return within(content as Parameters<typeof within>[0], mostBytes);
    },

    async title(request: TitleRequest) {
      const model = await loadOffered(request.model);
      if ("code" in model) return { error: model };
      const { makeTitle } = await import("./title.ts");
      const span = telemetry.begin({ kind: "model", model: request.model, purpose: "title" });
      const { rows, signal } = request;
      let thrown: unknown;
      const onThrown = (error: unknown) => (thrown = error);
      const made = await span.inside(() => makeTitle({ model, rows, signal, timeoutMs, onThrown }));
      span.end("error" in made ? made.error.code : "OK");
      if ("error" in made && !signal.aborted)
        tell({ purpose: "title", runId: null, model: request.model, code: made.error.code }, thrown);
      return made;
    },

    async summarize(request: SummaryRequest) {
      const model = await loadOffered(request.model);
      if ("code" in model) return null;
      const [{ makeSummary }, { loadTokenCounter }] = await Promise.all([
        import("./summary.ts"),
        import("./models/tokens.ts"),
      ]);
      const { summary, rows, maxTokens, signal } = request;
      const beginCall = () => telemetry.begin({ kind: "model", model: request.model, purpose: "summary" });
      const counter = await loadTokenCounter();
      const onFailed = (code: RunErrorCode, thrown: unknown) =>
        tell({ purpose: "summary", runId: null, model: request.model, code }, thrown);
      return makeSummary({ model, summary, rows, maxTokens, counter, signal, timeoutMs, beginCall, onFailed });
    },

    async warm() {
      const [model] = await Promise.all([loadOffered(defaultModel), agents.size > 0 ? agentModules() : turnModules()]);
      return "code" in model ? model : null;
    },
  };
}

function agentModel(name: string): string {
  return `agent:${name}`;
}

function choiceOf(name: string, agent: AgentSpec | undefined, isDefault: boolean): ModelChoice {
  if (agent === undefined)
    return { name, isDefault, kind: "MODEL", description: null, tools: () => Promise.resolve([]) };
  const tools = async (signal: AbortSignal): Promise<readonly ToolChoice[]> => {
    // What a flow calls is known to itself alone.
    if (agent.kind !== "agent") return [];
    const { toJsonSchema } = await import("@langchain/core/utils/json_schema");
    return (await agent.tools(signal, null)).map(({ tool: { name: called, description, schema }, needsApproval }) => ({
      ...{ name: called, description, needsApproval },
      // Typed as any of the forms that there are.
      parameters: toJsonSchema(schema as Parameters<typeof toJsonSchema>[0]),
    }));
  };
  const { description } = agent;
  return { name, isDefault, kind: "AGENT", description, takesPageTools: takesPageTools(agent), tools };
}

function takesPageTools(agent: AgentSpec | undefined): boolean {
  return agent?.kind === "agent" && agent.takesPageTools === true;
}

function refusal(message: string): RunError {
  return runError("OTHER", { message, retryable: false });
}

/** A model of the program's own. */
function given(chat: BaseChatModel): LoadedModel {
  return { chat, modelName: chat._llmType(), speaksOpenAI: false, strictOrder: false, isOffline: false };
}

async function historyOf(request: ReplyRequest, defaults: RepliesOptions["memoryDefaults"]) {
  const { strategy, maxTurns, maxTokens }: MemorySettings = request.memory;
  const limits = { strategy, maxTurns: maxTurns ?? defaults.maxTurns, maxTokens: maxTokens ?? defaults.maxTokens };
  const { selectRows } = await turnModules();
  if (strategy === "BUFFER" || strategy === "WINDOW") return selectRows(request.rows, limits, () => 0);

  const { loadTokenCounter } = await import("./models/tokens.ts");
  const counter = await loadTokenCounter();
  if (strategy === "TOKEN_BUFFER" || request.summary === null || request.summary === "") {
    return selectRows(request.rows, limits, counter.countMessage);
  }
  const [{ summaryTokens }, { summaryMessage }] = await Promise.all([
    import("./summary.ts"),
    import("./history/memory.ts"),
  ]);
  const summary = counter.clipText(request.summary, summaryTokens(limits.maxTokens));
  const room = limits.maxTokens - counter.countText(summary, limits.maxTokens);
  const rows = selectRows(request.rows, { ...limits, maxTokens: room }, counter.countMessage);
  return [summaryMessage(summary), ...rows];
}
