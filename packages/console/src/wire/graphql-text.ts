/** A document as a person writes it: the client's have no line breaks. */
export function formatDocument(text: string): string {
  let depth = 0;
  let line = "";
  const lines: string[] = [];
  const flush = () => {
    if (line.trim() !== "") lines.push("  ".repeat(depth) + line.trim());
    line = "";
  };
  let round = 0;
  // Strings, names with what belongs to them, and punctuation.
  for (const [piece] of text.matchAll(
    /"(?:[^"\\]|\\.)*"|\.\.\.\s*on\s+\w+|\.\.\.\s*\w*|[{}()[\]]|[^\s{}()[\]."]+|\s+/g,
  )) {
    if (piece === "{" && round === 0) {
      line = `${line.trimEnd()} {`;
      flush();
      depth++;
    } else if (piece === "}" && round === 0) {
      flush();
      depth--;
      line = "}";
      flush();
    } else {
      if (piece === "(") round++;
      if (piece === ")") round--;
      // In a selection each field has a line of its own, and its arguments and directives stay with it.
      const isField = depth > 0 && round === 0 && /^(\w|\.\.\.)/.test(piece) && !/:\s*$/.test(line);
      if (isField) flush();
      line += /^\s+$/.test(piece) ? " " : piece;
    }
  }
  flush();
  return lines.join("\n").replace(/\n(?=(fragment|query|mutation|subscription)\b)/g, "\n\n");
}
