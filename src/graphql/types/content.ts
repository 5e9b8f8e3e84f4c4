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
