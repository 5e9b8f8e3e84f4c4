import { specifiedDirectives } from "graphql";
import "./types/events.ts";
import "./types/message.ts";
import "./types/model.ts";
import "./types/new-message.ts";
import "./types/node.ts";
import "./types/run.ts";
import "./types/run-decisions.ts";
import "./types/scalars.ts";
import "./types/session-mutations.ts";
import "./types/session.ts";
import "./types/turn-mutations.ts";
import "./types/viewer.ts";
import { builder } from "./builder.ts";
import { countFields } from "./answer-budget.ts";
import { deferDirective } from "./types/defer.ts";

export const schema = countFields(builder.toSchema({ directives: [...specifiedDirectives, deferDirective] }));
