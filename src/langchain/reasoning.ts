// Models without a channel of their own for it write their reasoning into the text, between marks that differ by model.

interface Marks {
  /** Sources of a pattern. */
  readonly begin: string;
  readonly end: string;
  /** Whether the end alone is one: models' templates may have the beginning. */
  readonly endsAlone: boolean;
}

const marks: readonly Marks[] = [
  // DeepSeek R1, Qwen, GLM, MiniMax and most others; Seed's has a prefix.
  ...["think", "thinking", "thought", "reasoning", "reflection", "antThinking", "seed:think"].map((name) => ({
    begin: `<${name}>`,
    end: `</${name}>`,
    endsAlone: true,
  })),
  // Magistral, Kimi, OpenThinker, Command, MedGemma.
  { begin: "\\[THINK\\]", end: "\\[/THINK\\]", endsAlone: true },
  { begin: "◁think▷", end: "◁/think▷", endsAlone: true },
  { begin: "<\\|begin_of_thought\\|>", end: "<\\|end_of_thought\\|>", endsAlone: true },
  { begin: "<\\|START_THINKING\\|>", end: "<\\|END_THINKING\\|>", endsAlone: true },
  { begin: "<unused94>", end: "<unused95>", endsAlone: true },
  // As Open WebUI stores it.
  { begin: '<details type="reasoning"[^<>]*>', end: "</details>", endsAlone: false },
];

/** Two groups for each of `marks`: its beginning and its end. A mark in backticks is spoken of, not used. */
const anyMark = new RegExp(`(?<!\`)(?:${marks.map(({ begin, end }) => `(${begin})|(${end})`).join("|")})(?!\`)`, "gi");
/** What frames the answer itself. */
const frames =
  /<\|(?:start|end|return|message|begin_of_solution|end_of_solution|START_RESPONSE|END_RESPONSE)\|>|<\/?(?:answer|response)>/gi;

/**
 * Text as a reader is to see it. Reasoning whose beginning is missing goes up to its end; one that never ends, where the
 * model was cut off, goes whole. Takes time in proportion to the text, whatever is in it.
 */
export function withoutReasoning(text: string): string {
  // Nearly every text has none of the marks.
  if (!/[<[◁]|^analysis/.test(text)) return text;
  const rest = withoutMarked(withoutChannels(text));
  return rest === text ? text : rest.replace(frames, "").trim();
}

function withoutMarked(text: string): string {
  let kept = "";
  let from = 0;
  let open: { readonly marks: number; readonly at: number } | null = null;
  for (const match of text.matchAll(anyMark)) {
    const group = match.slice(1).findIndex(Boolean);
    const which = group >> 1;
    const isEnd = group % 2 === 1;
    if (!isEnd && open === null) {
      kept += text.slice(from, match.index);
      from = match.index;
      open = { marks: which, at: match.index };
    } else if (isEnd && (open === null ? marks[which]?.endsAlone === true : open.marks === which)) {
      if (open === null) kept = "";
      from = match.index + match[0].length;
      open = null;
    }
  }
  // In the middle of a line it is a word of the text.
  const isCutOff = open !== null && /(?:^|\n)[ \t]*$/.test(text.slice(Math.max(0, open.at - 80), open.at));
  return isCutOff ? kept : kept + text.slice(from);
}

/** gpt-oss writes into channels. Servers that take the marks out of it leave "analysis…assistantfinal…". */
function withoutChannels(text: string): string {
  const final = [...text.matchAll(/<\|channel\|>\s*final\b[^<]{0,100}<\|message\|>/gi)].at(-1);
  if (final !== undefined) return text.slice(final.index + final[0].length);
  const other = text.search(/<\|channel\|>\s*(?:analysis|commentary)\b/i);
  if (other >= 0) return text.slice(0, other);
  const bare = text.startsWith("analysis") ? text.indexOf("assistantfinal") : -1;
  return bare < 0 ? text : text.slice(bare + "assistantfinal".length);
}
