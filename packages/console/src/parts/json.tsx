import type { ComponentChildren, JSX } from "preact";

/** Longer ones are shown without colours: each colour is an element. */
const mostColoured = 20_000;

/** JSON, or what else lies there: as it is. */
export function Json({ text, label }: { readonly text: string; readonly label: string }): JSX.Element {
  const shown = indented(text);
  return (
    <pre class="json" tabIndex={0} role="group" aria-label={label}>
      {shown.length > mostColoured ? shown : coloured(shown)}
    </pre>
  );
}

export function indented(text: string): string {
  return isJson(text) ? JSON.stringify(JSON.parse(text), null, 2) : text;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

export function isJsonObject(text: string): boolean {
  return text.trim().startsWith("{") && isJson(text);
}

function coloured(text: string): ComponentChildren {
  const pieces: ComponentChildren[] = [];
  let end = 0;
  for (const match of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null|-?\d[\d.eE+-]*)\b/g)) {
    const [all, string, colon] = match;
    const name = string === undefined ? "value" : colon === undefined ? "string" : "key";
    const word = string ?? all;
    pieces.push(text.slice(end, match.index), <span class={name}>{word}</span>);
    end = match.index + word.length;
  }
  return [...pieces, text.slice(end)];
}
