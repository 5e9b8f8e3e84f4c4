import { builder } from "../builder.ts";
import type { MessageParent } from "./message-parent.ts";
import type { RunParent, SessionParent } from "./readings.ts";

// The three nodes by name, for the fields that give them.

export const SessionRef = builder.objectRef<SessionParent>("Session");
export const MessageRef = builder.objectRef<MessageParent>("Message");
export const RunRef = builder.objectRef<RunParent>("Run");
