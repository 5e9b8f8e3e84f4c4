import type { CallToolResult, ContentBlock } from "@modelcontextprotocol/sdk/types.js";

interface ToolResult {
  readonly isFailed: boolean;
  /** What the model gets: few providers take anything but text as a tool's answer. */
  readonly text: string;
  /** What is no text, and structured content beside a text; null: none. It is kept in the row. */
  readonly artifact: { readonly content?: readonly ContentBlock[]; readonly structuredContent?: unknown } | null;
}

/** What a server has answered. Resources are read where they come along; a link to one is told. */
export function resultOf({ content, structuredContent, isError = false }: CallToolResult): ToolResult {
  const texts = content.map(textOf).filter((text) => text !== "");
  const others = content.filter(({ type }) => type !== "text");
  const onlyStructured = texts.length === 0 && structuredContent !== undefined;
  const artifact = {
    ...(others.length === 0 ? {} : { content: others }),
    ...(structuredContent === undefined || onlyStructured ? {} : { structuredContent }),
  };
  return {
    isFailed: isError,
    text: onlyStructured ? JSON.stringify(structuredContent) : texts.join("\n\n"),
    artifact: Object.keys(artifact).length === 0 ? null : artifact,
  };
}

function textOf(block: ContentBlock): string {
  switch (block.type) {
    case "text":
      return block.text;
    case "image":
    case "audio":
      return `[${block.type}, ${block.mimeType}]`;
    case "resource_link":
      return `[${block.title ?? block.name}](${block.uri})`;
    case "resource":
      return "text" in block.resource
        ? block.resource.text
        : `[file, ${block.resource.mimeType ?? "unknown"}: ${block.resource.uri}]`;
  }
}
