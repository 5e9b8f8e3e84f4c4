import { builder } from "../builder.ts";

// Relay's paging arguments, as the schema has them; paging.ts checks what is given.

export const messagePageArgs = builder.args((t) => ({
  first: t.int({ description: "This many from the page's start, oldest first: 1 to 200. Not together with `last`." }),
  after: t.string({
    description: "Only what comes after this cursor (of a message, a session or an event) or Message.id.",
  }),
  last: t.int({ description: "This many up to the page's end: 1 to 200; 50 where neither is given." }),
  before: t.string({
    description: "Only what comes before this cursor (of a message, a session or an event) or Message.id.",
  }),
}));

export const sessionPageArgs = builder.args((t) => ({
  first: t.int({
    description: "This many from the newest on: 1 to 100; 20 where neither is given. Not together with `last`.",
  }),
  after: t.string({ description: "Only sessions behind this cursor (less recently updated ones)." }),
  last: t.int({ description: "This many up to the page's end: 1 to 100." }),
  before: t.string({ description: "Only sessions before this cursor (more recently updated ones)." }),
}));
