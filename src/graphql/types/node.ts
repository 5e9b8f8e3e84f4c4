import type { GraphQLResolveInfo } from "graphql";

import { badInput } from "../../conversation/errors.ts";
import { builder } from "../builder.ts";
import type { Context } from "../context.ts";
import { parseGlobalId } from "../reading/global-ids.ts";
import { listSize } from "../limits-cost.ts";
import { pagesOf } from "../reading/lookahead.ts";
import { MessageParent } from "../reading/message-parent.ts";
import { readingsOfQuery } from "../reading/readings.ts";
import type { RunParent, SessionParent } from "../reading/readings.ts";

const mostIds = 100;

/** The interface's own resolveType knows by __typename what it has before it. */
type NodeParent =
  (SessionParent & { readonly __typename: "Session" }) | MessageParent | (RunParent & { readonly __typename: "Run" });

/** null for whatever is no id of ours, no longer there, or another's: they cannot be told apart (P11). */
async function readNode(id: string, context: Context, info: GraphQLResolveInfo): Promise<NodeParent | null> {
  const { conversations, viewer } = context;
  const readings = readingsOfQuery(context);
  const node = parseGlobalId(id);
  switch (node?.type) {
    case undefined:
      return null;
    case "Session": {
      const parent = await readings.read(context, node.sessionId, () => pagesOf(info, node.sessionId));
      return parent && { __typename: "Session", ...parent };
    }
    case "Message": {
      const placed = await conversations.readMessage(viewer, node.sessionId, node.local);
      if (placed === null) return null;
      context.answer?.read([placed.row]);
      return new MessageParent(placed, readings);
    }
    case "Run": {
      const run = await readings.readRun(context, node.sessionId, node.local);
      return run && { __typename: "Run", run, readings };
    }
  }
}

builder.queryFields((t) => ({
  node: t.field({
    type: builder.nodeInterfaceRef(),
    nullable: true,
    description: "Anything by its global id; null where there is none, where it is another's, and for what is no id.",
    args: { id: t.arg.id({ required: true, description: "A global id: of a Session, a Message or a Run." }) },
    resolve: (_root, { id }, context, info) => readNode(id, context, info),
  }),
  nodes: t.field({
    type: [builder.nodeInterfaceRef()],
    nullable: { list: false, items: true },
    description: "The same for several ids, in their order.",
    args: {
      ids: t.arg.idList({ required: true, description: `Global ids, at most ${mostIds}; more are BAD_USER_INPUT.` }),
    },
    extensions: listSize({ by: "argument", argument: "ids", most: mostIds }),
    resolve: (_root, { ids }, context, info) => {
      if (ids.length > mostIds) throw badInput("ids", `Ask for at most ${mostIds} ids at a time.`);
      return ids.map((id) => readNode(id, context, info));
    },
  }),
}));
