// relay-compiler reads the schema from a file: this one is the gateway's, as it runs.
import { writeFile } from "node:fs/promises";
import { buildClientSchema, getIntrospectionQuery, printSchema } from "graphql";

const { PARLEY_URL = "http://localhost:4000" } = process.env;
const answer = await fetch(`${PARLEY_URL}/graphql`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ query: getIntrospectionQuery() }),
});
const { data } = await answer.json();
await writeFile("schema.graphql", printSchema(buildClientSchema(data)));
