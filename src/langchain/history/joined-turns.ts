/** Something that one role said, in LangChain's form and in OpenAI's alike. */
export interface Said {
  readonly content: string | readonly object[];
  readonly name?: string | undefined;
}

/**
 * What one role said twice as said at once: text by an empty line, blocks one behind another. Different names are kept
 * ahead of what they said.
 */
export function joinedTurns(first: Said, second: Said): Said {
  const sameName = first.name === second.name;
  const [one, two] = sameName ? [first.content, second.content] : [withName(first), withName(second)];
  const content =
    typeof one === "string" && typeof two === "string" ? `${one}\n\n${two}` : [...blocks(one), ...blocks(two)];
  return sameName && first.name !== undefined ? { content, name: first.name } : { content };
}

function withName({ content, name }: Said): Said["content"] {
  if (name === undefined) return content;
  return typeof content === "string" ? `${name}: ${content}` : [{ type: "text", text: `${name}:` }, ...content];
}

function blocks(content: Said["content"]): readonly object[] {
  return typeof content === "string" ? [{ type: "text", text: content }] : content;
}
