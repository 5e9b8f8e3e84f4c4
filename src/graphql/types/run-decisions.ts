import { badInput, notFound } from "../../conversation/errors.ts";
import { isObject } from "../../conversation/message/json.ts";
import type { Decision } from "../../conversation/conversations/responding.ts";
import type { Run } from "../../conversation/run.ts";
import type { PageRequest } from "../../conversation/session.ts";
import { builder } from "../builder.ts";
import { parseGlobalId } from "../reading/global-ids.ts";
import { pagesOfSessionBelow } from "../reading/lookahead.ts";
import { Readings, requestOf } from "../reading/readings.ts";
import { RunRef, SessionRef } from "../reading/refs.ts";
import { ContentBlockInput, parseIdempotencyKey, parseOptionalContent } from "./new-message.ts";

const callId = "The ToolPart.callId.";

const CallInput = builder.inputType("CallInput", {
  description: "A call of a tool.",
  fields: (t) => ({ callId: t.string({ required: true, description: callId }) }),
});

const EditInput = builder.inputType("EditInput", {
  description: "A call of a tool, and the arguments to call it with instead.",
  fields: (t) => ({
    callId: t.string({ required: true, description: callId }),
    args: t.field({
      type: "JSON",
      required: true,
      description:
        "All of the arguments, as an object that the tool's schema takes. The tool stays the one that was called.",
    }),
  }),
});

const RejectInput = builder.inputType("RejectInput", {
  description: "A call of a tool that is rejected.",
  fields: (t) => ({
    callId: t.string({ required: true, description: callId }),
    reason: t.string({ description: "Why; the model is told it. At most 4,000 characters." }),
  }),
});

const ToolResultInput = builder.inputType("ToolResultInput", {
  description: "What came of a call that a page has begun.",
  fields: (t) => ({
    callId: t.string({ required: true, description: callId }),
    text: t.string({ description: "The result as text: this or `content`, or neither." }),
    content: t.field({
      type: [ContentBlockInput],
      description: "The result as blocks, at most 100. What is over the agent's `resultBytes` is cut off.",
    }),
    failed: t.boolean({ description: "Whether the tool failed; false if left out." }),
  }),
});

const DecisionInput = builder.inputType("DecisionInput", {
  description: "The decision on one call: exactly one of its fields, of those that ToolPart.allowed lists.",
  isOneOf: true,
  fields: (t) => ({
    begin: t.field({
      type: CallInput,
      description: "The page carries it out: of two that begin a call one does. Of calls with allowed BEGIN.",
    }),
    approve: t.field({ type: CallInput, description: "It is carried out." }),
    edit: t.field({ type: EditInput, description: "It is carried out with other arguments." }),
    reject: t.field({ type: RejectInput, description: "It is not carried out." }),
    result: t.field({ type: ToolResultInput, description: "What came of a call that was begun." }),
  }),
});

const RespondToRunInput = builder.inputType("RespondToRunInput", {
  description: "Decisions on the calls of tools that a run waits for.",
  fields: (t) => ({
    runId: t.id({ required: true, description: "The run's global id." }),
    decisions: t.field({
      type: [DecisionInput],
      required: true,
      description: "One for each call, at most 100. Calls may be left for a later respondToRun.",
    }),
    idempotencyKey: t.string({
      description:
        "1 to 128 characters of the caller's own: sent again with it and the same decisions within 25 hours, the answer is that of a call whose decisions were taken.",
    }),
  }),
});

interface Responded {
  readonly run: Run;
  readonly readings: Readings;
  readonly pages: readonly PageRequest[];
}

const RespondToRunPayload = builder.objectRef<Responded>("RespondToRunPayload").implement({
  description: "What respondToRun answers, at once: the run goes on without the caller.",
  fields: (t) => ({
    run: t.field({
      type: RunRef,
      description: "The run: WAITING if calls are left to decide on, else RUNNING, or how it has ended by now.",
      resolve: ({ run, readings }) => ({ run, readings }),
    }),
    session: t.field({
      type: SessionRef,
      description: "The session after it.",
      resolve: ({ run, readings, pages }, _args, context) => readings.require(context, run.sessionId, () => pages),
    }),
  }),
});

builder.mutationField("respondToRun", (t) =>
  t.field({
    type: RespondToRunPayload,
    description:
      "Decides on calls of tools that a run waits for, and brings the results of the page's own tools; any gateway takes it. Either all of the decisions are taken or none; only the first decision on a call counts. No call of a message begins before the last approval among its calls is given, and none of the agent's own calls before all are decided on; then the run goes on. Errors: BAD_USER_INPUT for a call that does not wait, for a decision that ToolPart.allowed does not list, and for arguments that do not fit the tool's schema; NOT_WAITING; NOT_FOUND; MESSAGE_ID_REUSED.",
    args: { input: t.arg({ type: RespondToRunInput, required: true, description: "What is decided." }) },
    resolve: async (_root, { input }, context, info) => {
      const id = parseGlobalId(input.runId);
      if (id?.type !== "Run") throw notFound("run");
      const pages = pagesOfSessionBelow(info) ?? [];
      const { run, session } = await context.conversations.respondToRun(
        context,
        id.sessionId,
        id.local,
        input.decisions.map(decisionOf),
        parseIdempotencyKey(input.idempotencyKey),
        requestOf(context, pages),
      );
      const readings = new Readings();
      readings.giveRun(run);
      readings.give(session, pages);
      return { run, readings, pages };
    },
  }),
);

function decisionOf(given: typeof DecisionInput.$inferInput, i: number): Decision {
  const { begin, approve, edit, reject, result } = given;
  if (begin) return { kind: "BEGIN", callId: begin.callId };
  if (result) {
    const content = parseOptionalContent(`input.decisions[${i}].result`, result) ?? [];
    return { kind: "RESULT", callId: result.callId, content, failed: result.failed ?? false };
  }
  if (approve) return { kind: "APPROVE", callId: approve.callId };
  if (reject) return { kind: "REJECT", callId: reject.callId, reason: reject.reason ?? null };
  const { args } = edit;
  if (!isObject(args)) throw badInput(`input.decisions[${i}].edit.args`, "The arguments must be an object.");
  return { kind: "EDIT", callId: edit.callId, args };
}
