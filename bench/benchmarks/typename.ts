import assert from "node:assert/strict";
import { compare, inRounds, type Benchmark } from "../benchmark.ts";
import { graphqlBody } from "../queries.ts";
import { httpContenders } from "./http.ts";

export const typename: Benchmark = {
  name: "typename",
  title: "{ __typename }, 32 connections",
  async run(stage) {
    const graphql = {
      path: "/graphql",
      bodies: [graphqlBody("{ __typename }")],
      check: (answer: string) => assert.deepEqual(JSON.parse(answer), { data: { __typename: "Query" } }),
    };
    const pace = { tokens: 1, firstTokenMs: 0, tokenMs: 0 };
    const servers = [
      { name: "Parley", note: "", process: await stage.start("parley.ts", { pace }), ...graphql },
      {
        name: "Yoga",
        note: "as it comes; no request ids, no limits but that of the body",
        process: await stage.start("baselines/yoga.ts", { pace }),
        ...graphql,
      },
    ];
    const contenders = await inRounds(await httpContenders(stage, servers), 8);
    const what = "{ __typename }, against plain Yoga";
    return {
      contenders,
      comparisons: [
        compare(contenders, { what, of: "Parley", to: "Yoga", metric: "cpuUs", form: "ratio", goal: 1 / 3 }),
      ],
    };
  },
};
