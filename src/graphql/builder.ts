import SchemaBuilder from "@pothos/core";
import RelayPlugin from "@pothos/plugin-relay";

import type { Context } from "./context.ts";

/** Where every file of this folder hangs its noun. Fields and arguments are non-null unless they say otherwise. */
export const builder = new SchemaBuilder<{
  Context: Context;
  DefaultFieldNullability: false;
  DefaultEdgesNullability: { list: false; items: false };
  Scalars: {
    /** Milliseconds since the epoch inside, ISO 8601 outside. */
    DateTime: { Input: number; Output: number };
    JSON: { Input: unknown; Output: unknown };
  };
}>({
  plugins: [RelayPlugin],
  defaultFieldNullability: false,
  relay: {
    // node and nodes are our own (node.ts): the plugin's throw for an id that is none, ours answer null (P11).
    nodeQueryOptions: false,
    nodesQueryOptions: false,
    nodeTypeOptions: { description: "Anything with a global id: a Session, a Message or a Run." },
    idFieldOptions: {
      description: "Global id, unique over all types: the key for a client's cache and for `node(id:)`.",
    },
    pageInfoTypeOptions: { description: "Where a page lies in the whole list." },
    hasNextPageFieldOptions: { description: "Whether there is more behind this page, whichever way it was asked for." },
    hasPreviousPageFieldOptions: {
      description: "Whether there is more before this page, whichever way it was asked for.",
    },
    startCursorFieldOptions: { description: "Cursor of the first item, for `before`; null where the page is empty." },
    endCursorFieldOptions: { description: "Cursor of the last item, for `after`; null where the page is empty." },
    // Read as properties, as any exposed field is: a resolver that only hands one on costs a call for each edge.
    edgesFieldOptions: {
      extensions: { pothosExposedField: "edges" },
      nullable: { list: false, items: false },
      description: "The page's items, each with its cursor.",
    },
    nodesOnConnection: { description: "The page's items without their cursors." },
    pageInfoFieldOptions: {
      extensions: { pothosExposedField: "pageInfo" },
      description: "Where this page lies in the whole list.",
    },
    cursorFieldOptions: { description: "The item's place in the list, for `after` and `before`." },
    nodeFieldOptions: { extensions: { pothosExposedField: "node" }, description: "The item.", nullable: false },
  },
});

builder.queryType({ description: "What can be read. Another owner's session answers as one that does not exist." });
builder.mutationType({
  description:
    "What can be changed. Each write is atomic; with a messageId or idempotencyKey it can be sent again without harm for 25 hours.",
});
builder.subscriptionType({
  description:
    "What is live, over WebSocket (graphql-transport-ws), SSE and multipart HTTP. Resumable from a cursor, without gaps.",
});
