import { byWord, isObject, objectOrEmpty, stringOrNull, type JsonObject } from "./json.ts";

export type MediaKind = "image" | "audio" | "video" | "file";

/** An image, sound, video or file, in any of the forms that LangChain's writers and the providers have for it. */
interface Media {
  readonly kind: MediaKind;
  /** An https: address or a data: URL; null where the block has neither. */
  readonly url: string | null;
  /** The id under which a provider keeps it, where there is no URL. */
  readonly fileId: string | null;
  readonly mimeType: string | null;
  readonly fileName: string | null;
}

const kinds = byWord<MediaKind>([
  ["image", ["image", "image_url", "input_image"]],
  ["audio", ["audio", "input_audio", "audio_url"]],
  ["video", ["video", "video_url"]],
  ["file", ["file", "input_file", "document"]],
]);

/** null: the block holds something else. */
export function mediaOf(block: JsonObject): Media | null {
  const type = stringOrNull(block["type"]);
  const known = type === null ? undefined : kinds.get(type);
  if (type === null || (known === undefined && type !== "media")) return null;
  const details = detailsOf(type, block);
  const mimeType = mimeTypeOf(type, block, details);
  // Google's form says by the MIME type alone what it is.
  const kind = known ?? kindOfMimeType(mimeType);
  const metadata = objectOrEmpty(block["metadata"]);
  return {
    kind,
    url: urlOf(details, mimeType),
    fileId: firstText(details["fileId"], details["file_id"], details["id"]),
    mimeType,
    fileName: firstText(
      details["filename"],
      details["fileName"],
      metadata["filename"],
      metadata["name"],
      metadata["title"],
      block["title"],
    ),
  };
}

/**
 * Where the data or its address is. LangChain has it in the block itself; OpenAI under the block's type, for some an
 * address without an object around it; Anthropic under `source`.
 */
function detailsOf(type: string, block: JsonObject): JsonObject {
  const inner = block[type] ?? (type === "input_image" ? block["image_url"] : undefined) ?? block["source"];
  return isObject(inner) ? inner : { ...block, ...(typeof inner === "string" ? { url: inner } : {}) };
}

function mimeTypeOf(type: string, block: JsonObject, details: JsonObject): string | null {
  const given = firstText(
    details["mimeType"],
    details["mime_type"],
    details["media_type"],
    block["mimeType"],
    block["mime_type"],
  );
  const format = type === "input_audio" ? stringOrNull(details["format"]) : null;
  return given ?? (format === null ? null : `audio/${format}`);
}

function kindOfMimeType(mimeType: string | null): MediaKind {
  const [main] = mimeType?.split("/") ?? [];
  return main === "image" || main === "audio" || main === "video" ? main : "file";
}

/** Data is base64 text, or a data: URL already. */
function urlOf(details: JsonObject, mimeType: string | null): string | null {
  const address = firstText(details["url"], details["fileUri"], details["file_url"]);
  if (address !== null) return /^(?:https|data):/i.test(address) ? address : null;
  const data = firstText(details["data"], details["base64"], details["file_data"]);
  if (data === null || data.startsWith("data:")) return data;
  return mimeType === null ? null : `data:${mimeType};base64,${data}`;
}

function firstText(...values: readonly unknown[]): string | null {
  for (const value of values) {
    const text = stringOrNull(value);
    if (text !== null) return text;
  }
  return null;
}
