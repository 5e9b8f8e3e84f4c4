import { SpanKind, type Attributes } from "@opentelemetry/api";
import type { Facts, Work } from "../../conversation/ports/telemetry.ts";

// How OpenTelemetry's semantic conventions call what is followed. No attribute holds what a user or a model wrote, a
// token, an address or a session's name: documents, variables, URLs' queries and commands' arguments stay out.

interface Description {
  readonly name: string;
  readonly kind: SpanKind;
  readonly attributes: Attributes;
}

const methods = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"]);

/** What a caller or a provider named, as long as a name is. */
function clip(text: string): string {
  return text.slice(0, 100);
}

export function describeWork(work: Work): Description {
  switch (work.kind) {
    case "request": {
      const method = methods.has(work.method) ? work.method : "_OTHER";
      return {
        name: `${method === "_OTHER" ? "HTTP" : method} ${work.path}`,
        kind: SpanKind.SERVER,
        attributes: {
          "http.request.method": method,
          "http.route": work.path,
          "url.path": work.path,
          "url.scheme": "http",
        },
      };
    }
    case "message":
      return {
        name: `WEBSOCKET ${work.path}`,
        kind: SpanKind.SERVER,
        attributes: { "network.protocol.name": "websocket", "http.route": work.path, "url.path": work.path },
      };
    case "operation":
      return {
        // Of the schema's words alone: there is a bounded number of names.
        name: work.field === "" ? work.type : `${work.type} ${work.field}`,
        kind: SpanKind.INTERNAL,
        attributes: {
          "graphql.operation.type": work.type,
          ...(work.name === null ? {} : { "graphql.operation.name": clip(work.name) }),
        },
      };
    case "run":
      return { name: "run", kind: SpanKind.INTERNAL, attributes: { "parley.run.id": work.runId } };
    case "chain":
      return { name: "chain", kind: SpanKind.INTERNAL, attributes: { "parley.memory.strategy": work.memory } };
    case "summary":
    case "title":
      return { name: work.kind, kind: SpanKind.INTERNAL, attributes: {} };
    case "tool":
      return {
        name: `execute_tool ${clip(work.tool)}`,
        kind: SpanKind.INTERNAL,
        attributes: {
          "gen_ai.operation.name": "execute_tool",
          "gen_ai.tool.name": clip(work.tool),
          "gen_ai.agent.name": work.agent,
        },
      };
    case "model": {
      const [, provider = "", model = work.model] = /^([^:]+):(.+)$/s.exec(work.model) ?? [];
      return {
        name: `chat ${clip(model)}`,
        kind: SpanKind.CLIENT,
        attributes: {
          "gen_ai.operation.name": "chat",
          "gen_ai.provider.name": providers[provider] ?? (provider === "" ? "_OTHER" : clip(provider)),
          "gen_ai.request.model": clip(model),
          "parley.model.purpose": work.purpose,
        },
      };
    }
  }
}

/** Providers that LangChain calls otherwise. */
const providers: Readonly<Record<string, string>> = {
  azure_openai: "azure.ai.openai",
  bedrock: "aws.bedrock",
  "google-genai": "gcp.gemini",
  "google-vertexai": "gcp.vertex_ai",
  mistralai: "mistral_ai",
  xai: "x_ai",
};

/** `name`: a script's, or a command's in lower case. */
export function describeCommand(name: string, isScript: boolean): Description {
  const command = isScript ? "EVALSHA" : name.toUpperCase();
  return {
    name: isScript ? `${command} ${name}` : command,
    kind: SpanKind.CLIENT,
    attributes: {
      "db.system.name": "redis",
      "db.operation.name": command,
      ...(isScript ? { "db.stored_procedure.name": name } : {}),
    },
  };
}

export function describeFacts({ status, usage, responseModel, finishReason, outcome }: Facts): Attributes {
  return {
    ...(status === undefined ? {} : { "http.response.status_code": status }),
    ...(usage
      ? { "gen_ai.usage.input_tokens": usage.inputTokens, "gen_ai.usage.output_tokens": usage.outputTokens }
      : {}),
    ...(responseModel === undefined ? {} : { "gen_ai.response.model": clip(responseModel) }),
    ...(finishReason === undefined ? {} : { "gen_ai.response.finish_reasons": [clip(finishReason)] }),
    ...(outcome === undefined ? {} : { "parley.run.outcome": outcome }),
  };
}
