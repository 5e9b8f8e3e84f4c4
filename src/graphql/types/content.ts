import { badInput } from "../../conversation/errors.ts";
import { isObject } from "../../conversation/message/json.ts";
import type { ContentBlock } from "../../conversation/message/message.ts";
import type { Citation, TypedBlock } from "../../conversation/message/typed-content.ts";
import { builder } from "../builder.ts";

type OfKind<Kind> = Extract<TypedBlock, { readonly kind: Kind }>;

const CitationRef = builder.objectRef<Citation>("Citation").implement({
  description: "Where a passage of a text comes from, as far as the model's provider tells it.",
  fields: (t) => ({
    url: t.exposeString("url", { nullable: true, description: "The source's address." }),
    title: t.exposeString("title", { nullable: true, description: "The source's title." }),
    quote: t.exposeString("quote", { nullable: true, description: "The source's own words." }),
    start: t.exposeInt("start", {
      nullable: true,
      description: "Where in its text block the passage begins, as the provider counts.",
    }),
    end: t.exposeInt("end", { nullable: true, description: "Where it ends." }),
  }),
});

const TextBlockRef = builder.objectRef<OfKind<"text">>("TextBlock").implement({
  description: "A piece of text.",
  fields: (t) => ({
    text: t.exposeString("text", { description: "The text, as it was stored." }),
    citations: t.expose("citations", { type: [CitationRef], description: "Its sources; empty for most." }),
  }),
});

const ImageBlockRef = builder.objectRef<OfKind<"image">>("ImageBlock").implement({
  description: "An image, by address or inline.",
  fields: (t) => ({
    url: t.exposeString("url", { description: "An https: address, or a data: URL that holds the image itself." }),
    detail: t.exposeString("detail", {
      nullable: true,
      description: 'How closely the model looks: "low", "high" or "auto"; null where none was given.',
    }),
  }),
});

const ReasoningBlockRef = builder.objectRef<OfKind<"reasoning">>("ReasoningBlock").implement({
  description: "What the model thought on the way to its reply.",
  fields: (t) => ({ text: t.exposeString("text", { description: "The reasoning, as the provider tells it." }) }),
});

const urlDescription = "An https: address, or a data: URL that holds it.";
const mimeTypeDescription = "Its MIME type, where it was given.";

const FileBlockRef = builder.objectRef<OfKind<"file">>("FileBlock").implement({
  description: "A file, by address or inline. One that only a provider has, under an id of its own, is an OtherBlock.",
  fields: (t) => ({
    url: t.exposeString("url", { description: urlDescription }),
    mimeType: t.exposeString("mimeType", { nullable: true, description: mimeTypeDescription }),
    fileName: t.exposeString("fileName", { nullable: true, description: "Its name, where it was given." }),
  }),
});

const AudioBlockRef = builder.objectRef<OfKind<"audio">>("AudioBlock").implement({
  description: "A sound, by address or inline.",
  fields: (t) => ({
    url: t.exposeString("url", { description: urlDescription }),
    mimeType: t.exposeString("mimeType", { nullable: true, description: mimeTypeDescription }),
  }),
});

const ServerToolBlockRef = builder.objectRef<OfKind<"serverTool">>("ServerToolBlock").implement({
  description: "A tool that the model's provider has called by itself, such as its web search, with the result.",
  fields: (t) => ({
    callId: t.exposeString("callId", { description: "The provider's id of the call." }),
    name: t.exposeString("name", { description: "The tool's name." }),
    args: t.expose("args", { type: "JSON", nullable: true, description: "What it was called with." }),
    result: t.expose("result", { type: "JSON", nullable: true, description: "What it gave; null where nothing came." }),
  }),
});

const OtherBlockRef = builder.objectRef<OfKind<"other">>("OtherBlock").implement({
  description: "Any other block of LangChain's: a video, a file under a provider's id, and what is yet to come.",
  fields: (t) => ({
    type: t.exposeString("type", { description: 'The block\'s own `type`, e.g. "video".' }),
    data: t.expose("data", { type: "JSON", description: "The whole block as it is stored, its `type` included." }),
  }),
});

const names = {
  text: "TextBlock",
  image: "ImageBlock",
  reasoning: "ReasoningBlock",
  file: "FileBlock",
  audio: "AudioBlock",
  serverTool: "ServerToolBlock",
  other: "OtherBlock",
} as const;

export const ContentBlockRef = builder.unionType("ContentBlock", {
  description: "A part of a message's content. More kinds will come.",
  types: [
    TextBlockRef,
    ImageBlockRef,
    ReasoningBlockRef,
    FileBlockRef,
    AudioBlockRef,
    ServerToolBlockRef,
    OtherBlockRef,
  ],
  resolveType: ({ kind }) => names[kind],
});

const ImageBlockInput = builder.inputType("ImageBlockInput", {
  description: "An image for the model to look at.",
  fields: (t) => ({
    url: t.string({
      required: true,
      description: "An https: address, or a data: URL. Anything else is BAD_USER_INPUT.",
    }),
    detail: t.string({
      description: 'How closely to look: "low", "high" or "auto", as the model\'s provider takes it.',
    }),
  }),
});

export const ContentBlockInput = builder.inputType("ContentBlockInput", {
  description: "One part of a message to be stored: exactly one of its fields.",
  isOneOf: true,
  fields: (t) => ({
    text: t.string({ description: "A piece of text." }),
    image: t.field({ type: ImageBlockInput, description: "An image." }),
    other: t.field({
      type: "JSON",
      description:
        'A block of LangChain\'s as it is, an object with a text `type`: {"type": "file", …}. What OtherBlock.data holds can be given back here.',
    }),
  }),
});

type GivenBlock = typeof ContentBlockInput.$inferInput;

/** A message's content as a caller gives it. */
export interface GivenContent {
  readonly text?: string | null | undefined;
  readonly content?: readonly GivenBlock[] | null | undefined;
}

/** `at` names the input for errors, e.g. "input". @throws BAD_USER_INPUT unless there is exactly one of text and content, with something in it. */
export function parseContent(at: string, given: GivenContent): readonly ContentBlock[] {
  const blocks = parseOptionalContent(at, given);
  if (blocks === null) throw badInput(`${at}.text`, "Give the message as text or as content.");
  if (blocks.every((block) => block.kind === "text" && block.text.trim() === "")) {
    const field = typeof given.text === "string" ? "text" : "content";
    throw badInput(`${at}.${field}`, "The message must not be empty.");
  }
  return blocks;
}

/** null: neither text nor content. Both may be empty, as a tool's answer is at times. @throws BAD_USER_INPUT for both at once. */
export function parseOptionalContent(at: string, { text, content }: GivenContent): readonly ContentBlock[] | null {
  const hasText = typeof text === "string";
  if (hasText && content) throw badInput(`${at}.text`, "Give either text or content, not both.");
  if (hasText) return text === "" ? [] : [{ kind: "text", text }];
  return content?.map((block, index) => parseBlock(`${at}.content[${index}]`, block)) ?? null;
}

function parseBlock(at: string, block: GivenBlock): ContentBlock {
  if (typeof block.text === "string") return { kind: "text", text: block.text };
  if (block.image) {
    const { url, detail } = block.image;
    if (!/^(?:https:\/\/\S|data:\S)/i.test(url)) {
      throw badInput(`${at}.image.url`, "An image's url must begin with https: or data:.");
    }
    return { kind: "image", url, detail: detail ?? null };
  }
  const type = typeOfOther(block.other);
  if (type === null) throw badInput(`${at}.other`, 'A block must be an object with a type, such as { type: "file" }.');
  // They have a form of their own here, whose checks this would go around.
  if (type === "text" || type === "image_url") {
    throw badInput(`${at}.other`, "Give text and images as text and image, not as other.");
  }
  return { kind: "other", type, data: block.other };
}

function typeOfOther(value: unknown): string | null {
  const type = isObject(value) ? value["type"] : null;
  return typeof type === "string" && type !== "" ? type : null;
}
