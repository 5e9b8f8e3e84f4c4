import type { JsonObject } from "./json.ts";

/** What most readers of a row ask for. */
export interface BriefRow {
  readonly type: string;
  readonly id: string | null;
  /** The text, as JSON.stringify would write it; null: the content is no text, or is to be worked out. */
  readonly writtenText: string | null;
  /** Of `response_metadata` what tells when and where the row was written. */
  readonly metadata: JsonObject;
}

// Rows as the gateway and LangChain JS write them are flat. A pattern takes what is asked for out of them in half the time
// that JSON.parse needs, which makes objects of all the rest. What it takes is JSON, with no key twice, so that both say the
// same. Each character fits it in one way only: else a row that fails late would be tried in all ways.

const plain = String.raw`[^"\\\x00-\x1f]`;
const string = `"${plain}*"`;
const integer = String.raw`(?:0|[1-9]\d{0,14})`;
const scalar = String.raw`${string}|-?${integer}(?:\.\d{1,15})?|true|false|null|\[\]|\{\}`;
const flat = `(?:${scalar}|${objectOf(`(?:${scalar})`)})`;
const value = `(?:${scalar}|${objectOf(flat)})`;
/** Of the escapes those alone that JSON.stringify writes, too. */
const text = String.raw`"(?!")${plain}*(?:\\["\\bfnrt]${plain}*)*"`;
const note = String.raw`"parley":\{"session":(${string}),"run":(null|${string}),"hint":(null|${integer}),"position":(${integer})\}`;
const entry = `(?!"(?:created_at|parley)")${string}:${value}`;
const metadata = String.raw`\{(?:(?:${entry},)*(?:"created_at":(${string}),)?${note}|(?:${entry}(?:,${entry})*)?)\}`;
const rest = `(?:,(?!"(?:content|id|response_metadata)")${string}:${value})*`;
const data = String.raw`\{"content":(${text})(?:,"id":"(${plain}+)")?${rest},"response_metadata":${metadata}\}`;
const pattern = new RegExp(String.raw`^\{"type":"(human|ai|system|tool)","data":${data}\}$`);

function objectOf(inner: string): string {
  return String.raw`\{${string}:${inner}(?:,${string}:${inner})*\}`;
}

/** The pattern remembers each place of a text that it might have to come back to. */
const mostLength = 16_384;

/** null: it is none of these, whatever else it is. */
export function briefRow(raw: string): BriefRow | null {
  const match = raw.length > mostLength ? null : pattern.exec(raw);
  if (match === null) return null;
  const [, type = "", written = "", id = null, createdAt, session, run = "", hint = "", position] = match;
  const parley =
    session === undefined
      ? undefined
      : {
          session: session.slice(1, -1),
          run: run === "null" ? null : run.slice(1, -1),
          hint: hint === "null" ? null : Number(hint),
          position: Number(position),
        };
  return {
    type,
    id,
    writtenText: written.isWellFormed() ? written : null,
    metadata: { created_at: createdAt?.slice(1, -1), parley },
  };
}
