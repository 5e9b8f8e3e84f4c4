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

import { specifiedDirectives } from "graphql";

import { builder } from "./builder.ts";
import { countFields } from "./counted-fields.ts";
import { deferDirective } from "./defer.ts";

export const schema = countFields(builder.toSchema({ directives: [...specifiedDirectives, deferDirective] }));
