import { lexer } from "marked";
import type { Token, Tokens } from "marked";
import type { ComponentChildren, JSX } from "preact";
import { useMemo } from "preact/hooks";

import { CopyButton } from "./copy-button.tsx";

// A parser's tokens become elements: no text of a model's is ever HTML, so there is nothing to make safe.

export function Markdown({ text }: { readonly text: string }): JSX.Element {
  const children = useMemo(() => blocks(tokensOf(text)), [text]);
  return <div class="markdown">{children}</div>;
}

function tokensOf(text: string): readonly Token[] {
  try {
    return lexer(text);
  } catch {
    // Nested too deeply for the parser: as it was written.
    return [{ type: "code", raw: text, text }];
  }
}

function blocks(tokens: readonly Token[]): ComponentChildren {
  return tokens.map((token) => blockOf(token as Tokens.Generic)); // as each type's own below
}

function blockOf(token: Tokens.Generic): ComponentChildren {
  const inside = () => inlines(token.tokens ?? []);
  switch (token.type) {
    case "heading": {
      // Below the page's own headings.
      const Heading = `h${Math.min(6, (token as Tokens.Heading).depth + 2)}` as "h3";
      return <Heading>{inside()}</Heading>;
    }
    case "paragraph":
      return <p>{inside()}</p>;
    case "text":
      return token.tokens === undefined ? decoded(token.raw) : inside();
    case "blockquote":
      return <blockquote>{blocks(token.tokens ?? [])}</blockquote>;
    case "list":
      return listOf(token as Tokens.List);
    case "code":
      return <Code token={token as Tokens.Code} />;
    case "table":
      return tableOf(token as Tokens.Table);
    case "hr":
      return <hr />;
    case "space":
    case "def":
      return null;
    case "checkbox":
      return inlineOf(token);
    default:
      return <p>{token.raw}</p>;
  }
}

function Code({ token: { text, lang = "" } }: { readonly token: Pick<Tokens.Code, "text" | "lang"> }): JSX.Element {
  return (
    <div class="code">
      <header>
        <span>{lang}</span>
        <CopyButton text={text} />
      </header>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </div>
  );
}

function listOf({ ordered, start, items }: Tokens.List): JSX.Element {
  const children = items.map((item) => <li class={item.task ? "task" : undefined}>{blocks(item.tokens)}</li>);
  return ordered ? <ol start={Number(start)}>{children}</ol> : <ul>{children}</ul>;
}

function tableOf({ header, rows }: Tokens.Table): JSX.Element {
  const cell = ({ tokens, align }: Tokens.TableCell, Cell: "th" | "td") => (
    <Cell class={align ?? undefined}>{inlines(tokens)}</Cell>
  );
  return (
    <div class="table" tabIndex={0} role="group" aria-label="Table">
      <table>
        <thead>
          <tr>{header.map((one) => cell(one, "th"))}</tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>{row.map((one) => cell(one, "td"))}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inlines(tokens: readonly Token[]): ComponentChildren {
  return tokens.map((token) => inlineOf(token as Tokens.Generic));
}

function inlineOf(token: Tokens.Generic): ComponentChildren {
  const inside = () => inlines(token.tokens ?? []);
  switch (token.type) {
    case "strong":
      return <strong>{inside()}</strong>;
    case "em":
      return <em>{inside()}</em>;
    case "del":
      return <del>{inside()}</del>;
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "br":
      return <br />;
    case "link":
      return linkTo((token as Tokens.Link).href, inside());
    case "image": {
      const { href, text } = token as Tokens.Image;
      // A picture that were loaded would tell its server who reads this.
      return linkTo(href, text === "" ? "image" : `image: ${text}`);
    }
    case "checkbox":
      return checkbox((token as Tokens.Checkbox).checked);
    case "escape":
      return (token as Tokens.Escape).text;
    case "text":
      return token.tokens === undefined ? decoded(token.raw) : inside();
    default:
      return token.raw;
  }
}

function checkbox(isChecked: boolean): JSX.Element {
  return <input type="checkbox" checked={isChecked} disabled aria-label={isChecked ? "done" : "to do"} />;
}

/** Of an address that does more than to be gone to, only the words are left. */
function linkTo(href: string, children: ComponentChildren): ComponentChildren {
  if (!/^(https?:\/\/|mailto:)/i.test(href)) return children;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

const entities: Readonly<Record<string, string>> = {
  ...{ amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—", ndash: "–" },
  ...{ copy: "©", reg: "®", trade: "™", rarr: "→", larr: "←", times: "×", deg: "°", euro: "€", middot: "·" },
};

/** What HTML calls a character by its name or number; Markdown takes that, too. */
function decoded(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(
    /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{2,8}));/gi,
    (all, decimal, hex, name: string | undefined) => {
      if (name !== undefined) return entities[name] ?? all;
      const code = decimal === undefined ? parseInt(String(hex), 16) : Number(decimal);
      return code === 0 || code > 0x10ffff ? "\ufffd" : String.fromCodePoint(code);
    },
  );
}
