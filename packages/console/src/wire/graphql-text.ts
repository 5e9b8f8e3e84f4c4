/** A document as a person writes it. The client's have no line breaks, and neither texts nor objects in their arguments. */
export function formatDocument(text: string): string {
  let lines = "";
  let depth = 0;
  // A field with its arguments and directives is one piece.
  for (const [piece] of text.matchAll(/[{}]|\.\.\.on \w+|[\w.:]+(?:@?\w*\([^)]*\))*/g)) {
    if (piece === "}") depth--;
    if (piece === "{") lines += " {";
    else if (depth > 0 || piece === "}") lines += `\n${"  ".repeat(depth)}${piece}`;
    else lines += `${lines === "" ? "" : lines.endsWith("}") ? "\n\n" : " "}${piece}`;
    if (piece === "{") depth++;
  }
  return lines;
}
