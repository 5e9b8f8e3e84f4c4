import type { ModelChoice } from "../../conversation/ports/model.ts";
import { builder } from "../builder.ts";

const ModelRef = builder.objectRef<ModelChoice>("Model").implement({
  description: "A model that a session or a single reply may choose.",
  fields: (t) => ({
    name: t.exposeString("name", { description: '"provider:name", e.g. "openai:gpt-4o-mini", or "offline".' }),
    isDefault: t.exposeBoolean("isDefault", { description: "Whether a session that names no model gets this one." }),
  }),
});

builder.queryField("models", (t) =>
  t.field({
    type: [ModelRef],
    description: "The models that may be chosen, the default first. Any other is BAD_USER_INPUT.",
    resolve: (_root, _args, { conversations }) => conversations.models,
  }),
);
