/** In the place of react-relay's tag: relay-compiler only looks for the name, and nothing here is rendered. */
export function graphql(parts: TemplateStringsArray): string {
  return parts.join("");
}
