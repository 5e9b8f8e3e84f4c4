import type { Viewer } from "../../conversation/session.ts";
import { builder } from "../builder.ts";

const ViewerRef = builder.objectRef<Viewer>("Viewer").implement({
  description: "The caller: the subject of its credentials, and what it may do.",
  fields: (t) => ({
    subject: t.exposeString("subject", { description: 'The token\'s subject; "anonymous" without authentication.' }),
    scopes: t.exposeStringList("scopes", { description: 'What the viewer may do, e.g. "chat:read" and "chat:write".' }),
    sessions: t.expose("sessions", {
      type: ["String"],
      nullable: true,
      description:
        'Patterns of the session ids that the viewer may choose, "*" for any text: ["jim:*"]. null: every id, without authentication.',
    }),
  }),
});

builder.queryField("viewer", (t) =>
  t.field({
    type: ViewerRef,
    description: "The caller, as the gateway sees it.",
    resolve: (_root, _args, { viewer }) => viewer,
  }),
);
