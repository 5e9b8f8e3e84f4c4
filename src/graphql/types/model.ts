import type { ModelChoice, ToolChoice } from "../../conversation/ports/model.ts";
import { builder } from "../builder.ts";

const ModelKindRef = builder.enumType("ModelKind", {
  description: "What answers under a model's name.",
  values: {
    MODEL: { description: "A model alone." },
    AGENT: { description: "An agent: a model with instructions and tools of the operator's." },
  } as const,
});

const ToolRef = builder.objectRef<ToolChoice>("Tool").implement({
  description: "A tool that an agent may call.",
  fields: (t) => ({
    name: t.exposeString("name", { description: "What it is called by." }),
    description: t.exposeString("description", { description: "What the model is told of it." }),
    parameters: t.expose("parameters", { type: "JSON", description: "The JSON Schema of its arguments." }),
    needsApproval: t.exposeBoolean("needsApproval", {
      description: "Whether no call of it begins before somebody has approved it.",
    }),
  }),
});

const ModelRef = builder.objectRef<ModelChoice>("Model").implement({
  description: "A model that a session or a single reply may choose.",
  fields: (t) => ({
    name: t.exposeString("name", {
      description: '"provider:name", e.g. "openai:gpt-4o-mini", "offline", or "agent:" and the name of an agent.',
    }),
    kind: t.expose("kind", { type: ModelKindRef, description: "What answers." }),
    description: t.exposeString("description", { nullable: true, description: "The operator's words for it." }),
    tools: t.field({
      type: [ToolRef],
      description:
        "What an agent may call; empty of a model alone, of a graph or Runnable, and while the tools' servers cannot be reached.",
      resolve: ({ tools }, _args, { signal }) => tools(signal).catch(() => []),
    }),
    isDefault: t.exposeBoolean("isDefault", { description: "Whether a session that names no model gets this one." }),
  }),
});

builder.queryField("models", (t) =>
  t.field({
    type: [ModelRef],
    description: "The models that the viewer may choose, the default first. Any other is BAD_USER_INPUT.",
    resolve: (_root, _args, { conversations, viewer }) => conversations.models(viewer),
  }),
);
