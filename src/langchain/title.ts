import { HumanMessage, SystemMessage } from "@langchain/core/messages";

import { isObject, parseJson, stringOrNull } from "../conversation/message/json.ts";
import type { RunError } from "../conversation/run.ts";
import { failureOf, runError } from "./models/failure.ts";
import type { LoadedModel } from "./models/models.ts";
import { offlineTitle } from "./offline/offline-text.ts";
import { withoutReasoning } from "./reasoning.ts";
import { messageOfRow } from "./history/rows.ts";
import { clip, textOfMessage } from "./text.ts";
import { watched } from "./models/watched.ts";

/** A title is told by how a conversation begins, so that is all the model gets to see. */
const maxMessages = 8;
const maxCharsAMessage = 600;
const maxTitleChars = 80;

const prompt =
  "The user gives you the beginning of a conversation. Answer with a title for it and nothing else: two to six words, in the language of the conversation, without quotation marks and without a full stop.";

export interface TitleWork {
  readonly model: LoadedModel;
  /** Stored rows, oldest first. */
  readonly rows: readonly string[];
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  /** What the model failed with. */
  readonly onThrown: (error: unknown) => void;
}

type TitleOutcome = { readonly title: string } | { readonly error: RunError };

/** At most 80 characters, in one line. */
export async function makeTitle({ model, rows, signal, timeoutMs, onThrown }: TitleWork): Promise<TitleOutcome> {
  const lines = beginningOf(rows);
  const first = lines.find(({ isUser }) => isUser) ?? lines[0];
  if (first === undefined) {
    const message = "There is nothing in this conversation yet to make a title of.";
    return { error: runError("OTHER", { message, retryable: false }) };
  }
  if (model.isOffline) return titled(offlineTitle(first.text));
  const transcript = lines.map(({ isUser, text }) => `${isUser ? "User" : "Assistant"}: ${text}`).join("\n\n");
  const end = await watched(signal, timeoutMs, (inner) =>
    model.chat.invoke([new SystemMessage(prompt), new HumanMessage(transcript)], { signal: inner }),
  );
  switch (end.kind) {
    case "cancelled":
      return { error: runError("OTHER", { message: "Making a title was stopped." }) };
    case "timedOut":
      return { error: runError("MODEL_TIMEOUT") };
    case "threw":
      onThrown(end.error);
      return { error: failureOf(end.error, false) };
    case "done":
      return titled(textOfMessage(end.value));
  }
}

interface Line {
  readonly isUser: boolean;
  readonly text: string;
}

function beginningOf(rows: readonly string[]): Line[] {
  const lines: Line[] = [];
  for (const row of rows) {
    const message = messageOfRow(row)?.message;
    if (message?.type !== "human" && message?.type !== "ai") continue;
    const said = textOfMessage(message);
    const text = clip((message.type === "ai" ? withoutReasoning(said) : said).trim(), maxCharsAMessage);
    if (text !== "") lines.push({ isUser: message.type === "human", text });
    if (lines.length === maxMessages) break;
  }
  return lines;
}

function titled(answer: string): TitleOutcome {
  const title = cleanTitle(answer);
  return title === "" ? { error: runError("OTHER", { message: "The model gave no title. Try again." }) } : { title };
}

/** Models think aloud, introduce, quote, prefix and decorate titles although they were asked not to. */
export function cleanTitle(answer: string): string {
  // Longer ones are no titles, and each step below looks at all of it.
  const said = clip(withoutReasoning(answer).trim(), 2000).replace(/^[ \t]*```.*$/gm, "");
  const titles = [titleInJson(said) ?? said]
    .flatMap((text) => text.split(/\n\s*\n/))
    .map((paragraph) => bare(firstOfList(paragraph)))
    .filter((title) => title !== "");
  return clip(titles.find((title) => !chatter.test(title)) ?? titles[0] ?? "", maxTitleChars);
}

/** Some models answer such questions with `{"title": "…"}`. */
function titleInJson(said: string): string | null {
  const value = parseJson(said);
  return isObject(value) ? stringOrNull(value["title"]) : null;
}

/** Where several are offered, one a line. */
function firstOfList(paragraph: string): string {
  const items = paragraph.split("\n").filter((line) => listItem.test(line));
  return items.length > 1 && items[0] !== undefined ? items[0].replace(listItem, "") : paragraph;
}

const listItem = /^\s*(?:\d{1,2}[.)]|[-*+•])\s+/;
/** What stands alone in front of an answer. */
const chatter = /^(?:sure|certainly|of course|absolutely|okay|ok|great|yes)\b[^\p{L}]*$/iu;

/** Peels off what surrounds a title, whatever lies within what. */
function bare(paragraph: string): string {
  let title = paragraph.replace(/[\s\p{Cc}]+/gu, " ").trim();
  for (let before = ""; before !== title;) {
    before = title;
    title = withoutQuotes(withoutLabel(withoutMarkdown(title)))
      // The last of an abbreviation or of three is none.
      .replace(/(?<!\.\S*)\.$|。$/u, "")
      .trim();
  }
  return /^[\p{P}\s]*$/u.test(title) ? "" : title;
}

function withoutMarkdown(title: string): string {
  return (
    title
      .replace(/^(?:#{1,6} |#{2,6}(?=\S)|> ?|[-*+•] )/, "")
      .replace(/^<title>|<\/title>$/gi, "")
      .replace(/^\\(?:boxed|text)\{(.*)\}$/, "$1")
      .replace(/ #+$/, "")
      .replace(/!?\[([^\]]+)\]\([^)]*\)/g, "$1")
      .replace(/(\*\*|~~|`)(?=\S)(.+?)\1/g, "$2")
      .replace(/(?<![\w*])\*(?=[^\s*])(.*?[^\s*])\*(?![\w*])/g, "$1")
      .replace(/^(__?)([^_].*[^_])\1$/, (whole, _mark, inner: string) => (inner.includes("_") ? whole : inner))
      // What the end of a pair was cut off from; `**kwargs` is none.
      .replace(/^\*\*(?=[^\sa-z*])|\*\*$/g, "")
  );
}

/** All that may stand before the colon with one of the nouns: "Sure! Here's a short title for the conversation:". */
const labelWords: ReadonlySet<string> = new Set(
  "sure certainly of course absolutely okay ok here here's is a an the this my our your for to in be would could conversation chat session thread discussion suggested proposed possible generated concise short brief descriptive good new final name".split(
    " ",
  ),
);
const labelNouns: ReadonlySet<string> = new Set(["title", "titles", "headline", "heading", "topic", "subject"]);
/** In other languages: what may follow them before the colon is not looked at. */
const foreignNouns: ReadonlySet<string> = new Set(
  "titel titre título titulo titolo tytuł название заголовок назва название başlık otsikko rubrik tittel cím titlu název nadpis naslov τίτλος כותרת عنوان العنوان शीर्षक judul 제목".split(
    " ",
  ),
);
const cjkNoun = /(?:标题|標題|题目|題目|タイトル|題名|件名|제목)$/u;

function withoutLabel(title: string): string {
  const [whole, label = ""] = /^([^:：]{1,80}?)["'*_`]*\s*[:：]["'*_`]*\s*/u.exec(title) ?? [];
  if (whole === undefined) return title.replace(/^(?:title|titel|titre|título|titolo)\s+[-–—]\s+/i, "");
  const words =
    label
      .toLowerCase()
      .replaceAll("’", "'")
      .match(/[\p{L}\p{M}']+/gu) ?? [];
  const [first = ""] = words.map((word) => word.replace(/^'+|'+$/g, ""));
  const isLabel =
    (words.some((word) => labelNouns.has(word)) &&
      words.every((word) => labelWords.has(word) || labelNouns.has(word))) ||
    (words.length <= 5 && foreignNouns.has(first)) ||
    cjkNoun.test(label) ||
    /^(?:chat|conversation|session|thread) name$/i.test(label);
  return isLabel ? title.slice(whole.length) : title;
}

const quotes: readonly (readonly [open: string, close: string])[] = [
  ['"', '"'],
  ["'", "'"],
  ["“", "”"],
  ["„", "“"],
  ["„", "”"],
  ["”", "”"],
  ["«", "»"],
  ["»", "«"],
  ["‘", "’"],
  ["‹", "›"],
  ["「", "」"],
  ["『", "』"],
  ["《", "》"],
];

function withoutQuotes(title: string): string {
  for (const [open, close] of quotes) {
    const inner = title.slice(open.length, -close.length);
    const isQuoted = title.startsWith(open) && title.endsWith(close) && title.length >= 2;
    // "A" and "B" is two quotations; an apostrophe within is none.
    if (isQuoted && inner.trim() === "") return "";
    if (isQuoted && !(close === "'" ? / '|' /.test(inner) : inner.includes(close) || inner.includes(open)))
      return inner;
  }
  // One whose other half is missing. An inch and a decade have theirs.
  const single = /^["“„«](?=[^"”“»]*$)|(?<=^[^"“„«]*\P{N})["”“»]$/u;
  return title.replace(single, "");
}
