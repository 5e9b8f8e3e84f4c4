import type { BaseChatModel } from "@langchain/core/language_models/chat_models";

import { ModelFailure, runError } from "./failure.ts";
import { onFailedAttempt } from "./retries.ts";

import type { CustomModel } from "./custom-model.ts";

export interface OpenAIOptions {
  readonly apiKey: string | null;
  /** Of any server that speaks OpenAI's protocol, which may need no key; null: OpenAI's own. */
  readonly baseUrl: string | null;
  /** null: of a server of `baseUrl` "completions", of OpenAI what LangChain takes for the model. */
  readonly api?: "completions" | "responses" | null;
  /** null: the provider's default. */
  readonly temperature: number | null;
  /** How often a request is sent again that failed before the first token. */
  readonly maxRetries: number;
}

export interface ModelsOptions {
  readonly openai: OpenAIOptions;
  readonly custom: Readonly<Record<string, CustomModel>>;
  readonly offlineWordDelayMs: number;
  /** A request was sent again because its connection had been closed meanwhile. */
  readonly onStaleConnection: () => void;
}

export interface LoadedModel {
  readonly chat: BaseChatModel;
  /** Without its provider. */
  readonly modelName: string;
  /** Its wire is made strict (wire/): a reply without a finish reason was cut off, and a usage that is missing was lost. */
  readonly speaksOpenAI: boolean;
  /** It may take nothing but one system message, then user and assistant in turns (role-order.ts). */
  readonly strictOrder: boolean;
  readonly isOffline: boolean;
}

export type LoadModel = (name: string) => Promise<LoadedModel>;

/** Models by name, each made once. @throws ModelFailure where there is no such model or its package is not installed. */
export function createModels(options: ModelsOptions): LoadModel {
  const loaded = new Map<string, Promise<LoadedModel>>();
  return (name) => {
    const known = loaded.get(name);
    if (known !== undefined) return known;
    const loading = load(name, options);
    loaded.set(name, loading);
    // What failed may work next time: a factory that needs the network, a package that was just installed.
    loading.catch(() => loaded.delete(name));
    return loading;
  };
}

async function load(name: string, options: ModelsOptions): Promise<LoadedModel> {
  const plain = { modelName: name, speaksOpenAI: false, strictOrder: false, isOffline: false };
  if (Object.hasOwn(options.custom, name)) return { ...plain, chat: await customModel(options.custom[name]) };
  if (name === "offline") {
    const { OfflineModel } = await import("../offline/offline.ts");
    return { ...plain, chat: new OfflineModel({ wordDelayMs: options.offlineWordDelayMs }), isOffline: true };
  }
  const [, provider, modelName] = /^([^:]+):(.+)$/s.exec(name) ?? [];
  if (provider === undefined || modelName === undefined) throw unavailable("There is no such model here.");
  if (provider === "openai") {
    const chat = await openAIModel(modelName, options);
    return { ...plain, modelName, chat, speaksOpenAI: true, strictOrder: options.openai.baseUrl !== null };
  }
  const made = await providerModel(provider, modelName, options);
  return { ...plain, modelName, ...made, strictOrder: true };
}

async function customModel(custom: CustomModel | undefined): Promise<BaseChatModel> {
  try {
    const chat: unknown = typeof custom === "function" ? await custom() : custom;
    if (isChatModel(chat)) return chat;
  } catch (cause) {
    throw unavailable("The model could not be set up.", cause);
  }
  throw unavailable("The model given to the gateway is no LangChain chat model.");
}

/** By its methods, since a program may have another copy of @langchain/core than we have. */
function isChatModel(value: unknown): value is BaseChatModel {
  return typeof value === "object" && value !== null && "generatePrompt" in value && "_llmType" in value;
}

const openAIBaseUrl = "https://api.openai.com/v1";

async function openAIModel(model: string, { openai, onStaleConnection }: ModelsOptions): Promise<BaseChatModel> {
  const { apiKey, baseUrl, api = null, temperature, maxRetries } = openai;
  if (apiKey === null && baseUrl === null) {
    throw new ModelFailure(
      runError("MODEL_UNAUTHORIZED", { message: "The gateway has no OPENAI_API_KEY for this model." }),
    );
  }
  const { ChatOpenAI, ChatOpenAICompletions, ChatOpenAIResponses } = await import("@langchain/openai");
  // Never `streaming: true`: after the last token LangChain would then fetch a tokenizer from the web. The gateway's
  // configuration is complete, so whatever the SDK would read from the environment instead is given here.
  const fields = {
    model,
    apiKey: apiKey ?? "not-needed",
    maxRetries,
    onFailedAttempt,
    timeout: noTimeout,
    ...(temperature === null ? {} : { temperature }),
    configuration: {
      baseURL: baseUrl ?? openAIBaseUrl,
      organization: null,
      project: null,
      ...(await configuration(onStaleConnection)),
    },
  };
  switch (api ?? (baseUrl === null ? null : "completions")) {
    case "completions":
      return new ChatOpenAICompletions(fields);
    case "responses":
      return new ChatOpenAIResponses(fields);
    case null:
      return new ChatOpenAI(fields);
  }
}

/** The idle time of a turn is watched outside; the client's own limit would count as an error to retry. */
const noTimeout = 2 ** 31 - 1;

/** Of OpenAI's client: it logs nothing, and its wire is made strict. */
async function configuration(onStaleConnection: () => void) {
  const { wireFetch } = await import("../wire/fetch.ts");
  return { logLevel: "off" as const, fetch: wireFetch(onStaleConnection) };
}

/** Every other provider that LangChain knows, where its package is installed; keys are the package's own affair. */
async function providerModel(
  modelProvider: string,
  model: string,
  { openai: { temperature, maxRetries }, onStaleConnection }: ModelsOptions,
): Promise<Pick<LoadedModel, "chat" | "speaksOpenAI">> {
  const { initChatModel, MODEL_PROVIDER_CONFIG } = await import("langchain/chat_models/universal");
  const known: Readonly<Record<string, { readonly package: string }>> = MODEL_PROVIDER_CONFIG;
  const provider = Object.hasOwn(known, modelProvider) ? known[modelProvider] : undefined;
  if (provider === undefined) throw unavailable(`There is no model provider of the name "${modelProvider}".`);
  try {
    const speaksOpenAI = provider.package === "@langchain/openai";
    const fields = {
      modelProvider,
      maxRetries,
      onFailedAttempt,
      ...(temperature === null ? {} : { temperature }),
      ...(speaksOpenAI ? { timeout: noTimeout, configuration: await configuration(onStaleConnection) } : {}),
    };
    const configurable = await initChatModel(model, fields);
    // The wrapper streams no tokens inside a chain, so the chain gets the model that is in it.
    return { chat: await configurable._getModelInstance(), speaksOpenAI };
  } catch (cause) {
    // LangChain's only sign of it is its message, which differs between its versions in all but the word "import".
    if (cause instanceof Error && /unable to import|cannot find (?:package|module)/i.test(cause.message)) {
      throw unavailable(
        `Models of "${modelProvider}" need the package ${provider.package}: npm install ${provider.package}`,
        cause,
      );
    }
    if (cause instanceof Error && /api.?key|credential/i.test(cause.message)) {
      const message = `The gateway has no API key for models of "${modelProvider}".`;
      throw new ModelFailure(runError("MODEL_UNAUTHORIZED", { message }), { cause });
    }
    throw unavailable(`The model of "${modelProvider}" could not be set up.`, cause);
  }
}

function unavailable(message: string, cause?: unknown): ModelFailure {
  return new ModelFailure(runError("MODEL_UNAVAILABLE", { message, retryable: false }), { cause });
}
