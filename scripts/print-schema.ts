// Writes schema.graphql, the public contract as the code has it. test/conformance/schema.test.ts fails where it differs.
import { writeFileSync } from "node:fs";

import { printSchema } from "graphql";

import { schema } from "../src/graphql/schema.ts";

writeFileSync(new URL("../schema.graphql", import.meta.url), `${printSchema(schema)}\n`);
