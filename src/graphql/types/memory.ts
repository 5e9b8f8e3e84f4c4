import { badInput } from "../../conversation/errors.ts";
import type { MemorySettings } from "../../conversation/session.ts";
import { builder } from "../builder.ts";

const MemoryStrategyRef = builder.enumType("MemoryStrategy", {
  description: "How much of the history the model sees: LangChain's four memories.",
  values: {
    BUFFER: { description: "All of it, as far as the gateway's own limit goes." },
    WINDOW: { description: "The last `maxTurns` turns." },
    TOKEN_BUFFER: { description: "The newest messages that fit `maxTokens`." },
    SUMMARY_BUFFER: {
      description: "The newest messages that fit `maxTokens`, ahead of them a summary of the older ones.",
    },
  } as const,
});

interface MemoryParent extends MemorySettings {
  readonly summary: string | null;
}

export const MemorySettingsRef = builder.objectRef<MemoryParent>("MemorySettings").implement({
  description: "How much of the history the model sees.",
  fields: (t) => ({
    strategy: t.expose("strategy", {
      type: MemoryStrategyRef,
      description: "Which of LangChain's memories.",
    }),
    maxTurns: t.exposeInt("maxTurns", {
      nullable: true,
      description: "WINDOW: how many turns, a turn being a USER message and what answers it; else null.",
    }),
    maxTokens: t.exposeInt("maxTokens", {
      nullable: true,
      description: "TOKEN_BUFFER, SUMMARY_BUFFER: how many tokens of history; else null.",
    }),
    summary: t.exposeString("summary", {
      nullable: true,
      description: "SUMMARY_BUFFER: what the older turns were summed up to; null until there is one.",
    }),
  }),
});

const usual = { maxTurns: 10, maxTokens: 2000 } as const;

export const MemorySettingsInput = builder.inputType("MemorySettingsInput", {
  description: "How much of the history the model is to see.",
  fields: (t) => ({
    strategy: t.field({ type: MemoryStrategyRef, required: true, description: "Which of LangChain's memories." }),
    maxTurns: t.int({ description: "WINDOW only: how many turns, at least 1; 10 if left out." }),
    maxTokens: t.int({
      description: "TOKEN_BUFFER and SUMMARY_BUFFER only: how many tokens, at least 1; 2000 if left out.",
    }),
  }),
});

type GivenMemory = typeof MemorySettingsInput.$inferInput;

/** @throws BAD_USER_INPUT (field "input.memory.…") for a limit below 1, or one that the strategy does not have. */
export function parseMemory({ strategy, maxTurns, maxTokens }: GivenMemory): MemorySettings {
  const hasTurns = strategy === "WINDOW";
  const hasTokens = strategy === "TOKEN_BUFFER" || strategy === "SUMMARY_BUFFER";
  return {
    strategy,
    maxTurns: limit("maxTurns", maxTurns, hasTurns, strategy),
    maxTokens: limit("maxTokens", maxTokens, hasTokens, strategy),
  };
}

function limit(
  name: keyof typeof usual,
  value: number | null | undefined,
  applies: boolean,
  strategy: string,
): number | null {
  const given = value ?? null;
  if (given !== null && !applies) throw badInput(`input.memory.${name}`, `${strategy} has no ${name}.`);
  if (given !== null && given < 1) throw badInput(`input.memory.${name}`, `${name} must be at least 1.`);
  return applies ? (given ?? usual[name]) : null;
}
