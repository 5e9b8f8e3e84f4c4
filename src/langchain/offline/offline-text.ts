import { clip } from "../text.ts";

// What the offline model says. It is no language model: it knows a handful of sentences, and finds a name in a history.

export interface Line {
  readonly who: "user" | "assistant" | "summary";
  readonly text: string;
}

const introduction =
  "I'm Parley's offline model: a few lines of code that stand in for a language model, so that everything around it can be tried.";

/** `history`: oldest first, without `input`. */
export function offlineReply(history: readonly Line[], input: string): string {
  const told = nameIn(input);
  if (told !== null) {
    return `Hello ${told}! ${introduction} I can't really talk, but I do see our whole conversation: ask me what your name is.`;
  }
  if (asksForName(input)) {
    const name = history.map(({ who, text }) => (who === "assistant" ? null : nameIn(text))).findLast(Boolean);
    return name === undefined || name === null
      ? `You haven't told me your name, as far as this conversation goes. ${introduction}`
      : `You said your name is ${name}. (I'm the offline model: I found that in the conversation's history.)`;
  }
  const messages = history.filter(({ who }) => who !== "summary").length;
  const before = messages === 1 ? "1 message" : `${messages} messages`;
  return `${introduction} You wrote: "${clip(input.trim(), 200)}". Before that, this conversation has ${before} that I can see. Tell me your name and I'll remember it; for real replies, configure a model.`;
}

const statements = [
  /\b(?:[Mm]y name is|[Mm]y name['’]s|[Cc]all me)\s+(\p{L}[\p{L}\p{M}'’-]*)/u,
  /\b(?:I['’]m|I am|i['’]m|i am)\s+(\p{Lu}[\p{L}\p{M}'’-]*)/u,
];

/** The name that a text tells; of several the last. */
function nameIn(text: string): string | null {
  const sentences = sentencesOf(text).filter((sentence) => !asksForName(sentence));
  const names = sentences.map((sentence) => statements.map((told) => told.exec(sentence)?.[1]).find(Boolean));
  return names.findLast(Boolean) ?? null;
}

function asksForName(text: string): boolean {
  return sentencesOf(text).some((sentence) =>
    /\b(?:what|who|which|know|remember|recall|guess|tell|say)\b.*\bmy name\b|\bwho am i\b|^\W*my name\s*\?/i.test(
      sentence,
    ),
  );
}

function sentencesOf(text: string): string[] {
  // Bounded, since it is asked of every message of a history.
  return clip(text, 5000).match(/[^.!?\n]+[.!?]*/g) ?? [];
}

/** Out of the first words of the first message of the user. */
export function offlineTitle(firstUserMessage: string): string {
  const words = firstUserMessage.trim().split(/\s+/);
  const title = clip(words.slice(0, 8).join(" "), 60);
  return words.length > 8 && !title.endsWith("…") ? `${title}…` : title;
}

/** The user's own words, shortened, so that what was told is not lost; the beginning and the newest are kept. */
export function offlineSummary(summary: string | null, lines: readonly Line[]): string {
  const said = lines.flatMap(({ who, text }) =>
    who === "user" ? [`The user said: ${clip(text.replace(/\s+/g, " ").trim(), 160)}`] : [],
  );
  const all = [...(summary === null || summary === "" ? [] : summary.split("\n")), ...said];
  return all.length <= 30 ? all.join("\n") : [...all.slice(0, 10), ...all.slice(-20)].join("\n");
}
