import "./events.ts";
import "./message.ts";
import "./model.ts";
import "./new-message.ts";
import "./node.ts";
import "./run.ts";
import "./scalars.ts";
import "./session-changes.ts";
import "./session.ts";
import "./turn.ts";
import "./viewer.ts";

import { builder } from "./builder.ts";

export const schema = builder.toSchema();
