import { createParleyClient } from "../../../client/src/client.ts";
import { Network } from "./network.ts";
import { Recorder } from "./recorder.ts";

/** What the gateway has written into the page. */
const { endpoint = "/graphql", graphiql } = document.documentElement.dataset;

/** Where GraphiQL is; null: it is off. */
export const graphiqlAddress = graphiql === "on" ? endpoint : null;

const tokenKey = "parley-token";
export const token = {
  get: () => sessionStorage.getItem(tokenKey),
  set: (value: string) => sessionStorage.setItem(tokenKey, value),
  clear: () => sessionStorage.removeItem(tokenKey),
};

export const recorder = new Recorder();
export const network = new Network(recorder);
export const client = createParleyClient({
  url: endpoint,
  token: token.get,
  fetch: network.fetch,
  webSocket: network.socket,
  onEvent: (event) => recorder.event(event),
});

export type Viewer = Awaited<ReturnType<typeof client.viewer>>;

/** An id for a new chat that the viewer may name. */
export function newSessionId({ sessions }: Viewer): string {
  const id = client.newSessionId().slice(0, 8);
  const pattern = sessions?.find((one) => one.endsWith("*"));
  return pattern === undefined ? `chat-${id}` : pattern.replace(/\*$/, id).replaceAll("*", "");
}
