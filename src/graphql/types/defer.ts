import { DirectiveLocation, GraphQLBoolean, GraphQLDirective, GraphQLNonNull, GraphQLString } from "graphql";

/**
 * Declared here, not left to Yoga's plugin (which adds it when a schema has none), so that schema.graphql tells of it:
 * relay-compiler, graphql-codegen and linters refuse a directive that the schema doesn't have.
 */
export const deferDirective = new GraphQLDirective({
  name: "defer",
  description:
    "What the fragment selects comes in a later part of the answer (multipart/mixed), so that the rest needs not wait for it: `reply` of sendMessage, for example.",
  locations: [DirectiveLocation.FRAGMENT_SPREAD, DirectiveLocation.INLINE_FRAGMENT],
  args: {
    if: { type: new GraphQLNonNull(GraphQLBoolean), defaultValue: true, description: "false: it comes with the rest." },
    label: { type: GraphQLString, description: "A name for the later part, unique in the document." },
  },
});
